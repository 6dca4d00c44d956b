"""The schema: made where there is none, added to where it is older, refused where it is newer."""

from sqlalchemy import Connection, inspect
from sqlalchemy.schema import CreateColumn

from asgi_llmobs.errors import SchemaTooNew
from asgi_llmobs.store.tables import SCHEMA_VERSION, MetaRow, metadata

__all__ = ["stored_version", "upgrade"]

FULL_TEXT = (
    "CREATE VIRTUAL TABLE IF NOT EXISTS llmobs_search "
    "USING fts5(input, output, content='', tokenize='unicode61 remove_diacritics 2')"
)
POSTGRES_FULL_TEXT = (
    "ALTER TABLE llmobs_texts ADD COLUMN IF NOT EXISTS words tsvector",
    "CREATE INDEX IF NOT EXISTS llmobs_texts_words ON llmobs_texts USING gin (words)",
)

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
    """Bring the schema to this code's version, inside the caller's write transaction. Only ever adds."""
    if stored_version(connection) == SCHEMA_VERSION:
        return
    inspector = inspect(connection)
    existing = {
        table: {column["name"] for column in inspector.get_columns(table)}
        for table in metadata.tables
        if inspector.has_table(table)
    }
    metadata.create_all(connection)
    quote = connection.dialect.identifier_preparer.quote
    for table, columns in existing.items():
        for column in metadata.tables[table].columns:
            if column.name not in columns:
                definition = CreateColumn(column).compile(dialect=connection.dialect)
                # a column that is added to rows must be nullable or say what they hold
                default = "" if column.nullable else " DEFAULT ''" if column.type.python_type is str else " DEFAULT 0"
                connection.exec_driver_sql(f"ALTER TABLE {quote(table)} ADD COLUMN {definition}{default}")
        for index in metadata.tables[table].indexes:
            index.create(connection, checkfirst=True)
    statements = (FULL_TEXT,) if connection.dialect.name == "sqlite" else POSTGRES_FULL_TEXT
    for statement in statements:
        connection.exec_driver_sql(statement)
    connection.execute(_meta.delete().where(_meta.c.name == "version"))
    connection.execute(_meta.insert().values(name="version", value=str(SCHEMA_VERSION)))
