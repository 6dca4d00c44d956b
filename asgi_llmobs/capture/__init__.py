"""The write side: everything that turns what happened into records."""
