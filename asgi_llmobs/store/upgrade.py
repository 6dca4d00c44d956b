"""The schema: made where there is none, added to where it is older, refused where it is newer."""

from collections.abc import Container

from sqlalchemy import Connection, Table, inspect
from sqlalchemy.schema import CreateColumn

from asgi_llmobs.errors import SchemaTooNew
from asgi_llmobs.store import partitions, shards
from asgi_llmobs.store.tables import PARTITIONED, SCHEMA_VERSION, MetaRow, metadata

__all__ = ["stored_version", "upgrade"]

FULL_TEXT = (
    "CREATE VIRTUAL TABLE IF NOT EXISTS llmobs_search "
    "USING fts5(input, output, content='', tokenize='unicode61 remove_diacritics 2')"
)
POSTGRES_FULL_TEXT = (
    "ALTER TABLE llmobs_texts ADD COLUMN IF NOT EXISTS words tsvector",
    "CREATE INDEX IF NOT EXISTS llmobs_texts_words ON llmobs_texts USING gin (words)",
)
# hours and sketches are not known; `llmobs recompute` adds them
USER_DAYS = """
INSERT INTO llmobs_user_rollups
SELECT project, 24, day, user_id, requests, errors, priced, unpriced, cost, inputs, input_tokens, outputs,
  output_tokens, CAST('' AS {blob}) FROM llmobs_user_days
"""
# that older versions made and no query asks any more
UNUSED_INDEXES = ("llmobs_users_last",)

_meta = MetaRow.__table__  # type: ignore[attr-defined]


def stored_version(connection: Connection) -> int:
    """The version of the schema in the database; 0 where there is none.

    Raises:
        SchemaTooNew: It is newer than this code.
    """
    if not inspect(connection).has_table(_meta.name):
        return 0
    query = _meta.select().with_only_columns(_meta.c.value).where(_meta.c.name == "version")
    value = connection.execute(query).scalar()
    version = int(value) if value is not None else 0
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(
            f"the database has schema {version}, this version of asgi_llmobs knows {SCHEMA_VERSION}: "
            "upgrade asgi_llmobs, or give it another store"
        )
    return version


def upgrade(connection: Connection) -> None:
    """Bring the schema to this code's version, inside the caller's write transaction. What it has is kept."""
    if stored_version(connection) == SCHEMA_VERSION:
        return
    sqlite = connection.dialect.name == "sqlite"
    inspector = inspect(connection)
    existing = {
        table: {column["name"] for column in inspector.get_columns(table)}
        for table in metadata.tables
        if inspector.has_table(table)
    }
    for table, columns in existing.items():
        add_columns(connection, metadata.tables[table], columns)
    if sqlite:
        metadata.create_all(connection)
    else:
        partitions.make_tables(connection)
        metadata.create_all(connection, [table for table in metadata.tables.values() if table not in PARTITIONED])
    for table in existing:
        for index in metadata.tables[table].indexes:
            if sqlite or metadata.tables[table] not in PARTITIONED:
                index.create(connection, checkfirst=True)
    for index_name in UNUSED_INDEXES:
        connection.exec_driver_sql(f"DROP INDEX IF EXISTS {index_name}")
    if inspector.has_table("llmobs_user_days"):  # of schema 8 and before
        connection.exec_driver_sql(USER_DAYS.format(blob="BLOB" if sqlite else "bytea"))
        connection.exec_driver_sql("DROP TABLE llmobs_user_days")
    for statement in (FULL_TEXT,) if sqlite else POSTGRES_FULL_TEXT:
        connection.exec_driver_sql(statement)
    connection.execute(_meta.delete().where(_meta.c.name == "version"))
    connection.execute(_meta.insert().values(name="version", value=str(SCHEMA_VERSION)))


def add_columns(connection: Connection, table: Table, present: Container[str]) -> None:
    quote = connection.dialect.identifier_preparer.quote
    for column in table.columns:
        if column.name not in present:
            definition = CreateColumn(column).compile(dialect=connection.dialect)
            # a column that is added to rows must be nullable or say what they hold
            default = "" if column.nullable else " DEFAULT ''" if column.type.python_type is str else " DEFAULT 0"
            change = f"ADD COLUMN {definition}{default}"
            connection.exec_driver_sql(f"ALTER TABLE {quote(table.name)} {change}")
            if connection.dialect.name != "sqlite":
                shards.each_remote(connection, table.name, change.replace("ADD COLUMN", "ADD COLUMN IF NOT EXISTS", 1))
