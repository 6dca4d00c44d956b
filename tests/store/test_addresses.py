"""The addresses of PostgreSQL databases that apps have, for whatever driver they were written."""

from typing import Any

import pytest
from sqlalchemy.dialects.postgresql import psycopg

from asgi_llmobs.store.database import Database

CASES: list[tuple[str, dict[str, Any]]] = [
    ("postgresql://app:secret@db:5433/shop", {"host": "db", "port": 5433, "user": "app", "dbname": "shop"}),
    ("postgres://app@db/shop", {"host": "db", "user": "app", "dbname": "shop"}),
    ("postgresql+psycopg_async://app@db/shop?sslmode=verify-full", {"host": "db", "sslmode": "verify-full"}),
    (
        "postgresql+asyncpg://app@[::1]/shop?ssl=true&prepared_statement_cache_size=0&command_timeout=5",
        {"host": "::1", "sslmode": "require"},
    ),
    ("postgresql+asyncpg://app@db/shop?ssl=prefer&timeout=3", {"sslmode": "prefer", "connect_timeout": "3"}),
    (
        "postgresql://app:p%40s@db1:5432,db2:5433/shop?target_session_attrs=read-write",
        {"host": "db1,db2", "port": "5432,5433", "password": "p@s", "target_session_attrs": "read-write"},
    ),
    ("postgresql://db1,db2", {"host": "db1,db2"}),
    ("postgresql:///shop?host=/run/postgresql", {"host": "/run/postgresql", "dbname": "shop"}),
]


@pytest.mark.parametrize(("url", "wanted"), CASES, ids=[url for url, _ in CASES])
def test_addresses(url: str, wanted: dict[str, Any]) -> None:
    """The sync driver gets what the address says, and nothing that it does not know."""
    address = Database(url).address
    given = psycopg.dialect().create_connect_args(address)[1]  # type: ignore[no-untyped-call]
    known = {"host", "port", "user", "password", "dbname", "sslmode", "connect_timeout", "target_session_attrs"}

    assert address.drivername == "postgresql+psycopg"
    assert {name: given.get(name) for name in wanted} == wanted
    assert set(given) <= known


def test_a_password_is_not_shown() -> None:
    """Where the store is can be told to anybody."""
    assert "secret" not in Database("postgresql://app:secret@db1:1,db2:2/shop").location
