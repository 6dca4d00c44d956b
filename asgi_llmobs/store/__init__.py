"""The database: its tables, how they are upgraded, how records get in. Knows records, nothing of capture or pages."""
