"""Reading from a replica of a PostgreSQL store: a real one, which streams from its primary."""

import time
from collections.abc import Iterator

import pytest

from asgi_llmobs import LLMObs
from asgi_llmobs.errors import StoreError
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.requests import list_requests
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.leases import Lease
from asgi_llmobs.store.write import Sink
from tests.making import request
from tests.postgres_server import PostgresServer, as_admin

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


class Replica(PostgresServer):
    """A copy of *primary* that goes on following it."""

    def __init__(self, primary: PostgresServer) -> None:
        super().__init__()
        self.primary = primary

    def __enter__(self) -> "Replica":
        self.run("pg_basebackup", "-D", str(self.data), "-d", self.primary.url(), "-R", "-X", "stream", "-c", "fast")
        self.start()
        return self


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[PostgresServer, Replica]]:
    with PostgresServer(wal_level="replica", max_wal_senders=4) as primary, Replica(primary) as replica:
        yield primary, replica


def test_pages_read_from_the_replica(servers: tuple[PostgresServer, Replica]) -> None:
    """Queries go there, and work while the primary is away; writing, leases and settings stay with the primary."""
    primary, replica = servers
    database = Database(primary.url(), read_url=replica.url())
    assert Sink(database).write([request() for _ in range(5)]) == (5, 0)
    end = time.monotonic() + 20
    while count(database) < 5:
        assert time.monotonic() < end
        time.sleep(0.05)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar() is True
    with database.read(fresh=True) as connection:
        assert connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar() is False

    as_admin(replica.url(), "SELECT pg_wal_replay_pause()")
    assert Sink(database).write([request()]) == (1, 0)
    assert Lease(database, "work").take(60) is True
    assert Lease(database, "work").take(60) is False  # although the replica does not know of it yet
    assert count(database) == 5
    as_admin(replica.url(), "SELECT pg_wal_replay_resume()")

    primary.stop("immediate")
    assert count(database) in (5, 6)
    primary.start()
    replica.stop()
    with pytest.raises(StoreError):
        count(database)
    assert Sink(database).write([request()]) == (1, 0)
    replica.start()
    assert count(database) >= 5
    database.dispose()


def count(database: Database) -> int:
    try:
        return list_requests(database, Filter()).count
    except StoreError as error:
        if "holds no data" in str(error):  # the schema has not arrived yet
            return 0
        raise


def test_an_engine_with_a_replica(servers: tuple[PostgresServer, Replica]) -> None:
    """The option reaches the store."""
    primary, replica = servers
    obs = LLMObs(primary.url(), read_url=replica.url(), admin=None, instrument="off")
    Sink(obs.database).write([request()])
    end = time.monotonic() + 20
    while not count(obs.database):
        assert time.monotonic() < end
        time.sleep(0.05)
    with obs.database.read() as connection:
        assert connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar() is True
    obs.close()
