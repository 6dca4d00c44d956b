"""A partition a day on PostgreSQL: made when it is needed, found again, dropped whole; also on other servers."""

import time
from dataclasses import replace

import pytest

from asgi_llmobs.errors import StoreError
from asgi_llmobs.filters import Filter
from asgi_llmobs.limits import Retention
from asgi_llmobs.queries.requests import get_request, list_requests
from asgi_llmobs.retention import prune
from asgi_llmobs.store import partitions
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.partitions import DAY_NS, days, first_key
from asgi_llmobs.store.tables import PARTITIONED
from asgi_llmobs.store.write import Sink
from tests.databases import postgres_database
from tests.making import request
from tests.postgres_server import as_admin

TODAY = int(time.time()) // 86_400


@pytest.fixture
def database(postgres_store: Database) -> Database:
    """Only PostgreSQL has partitions."""
    return postgres_store


@pytest.fixture
def calendar(monkeypatch: pytest.MonkeyPatch) -> "Calendar":
    return Calendar(monkeypatch)


class Calendar:
    """Lets the database think that it is some day."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch, self._query = monkeypatch, partitions.KEYS

    def turn(self, shift: int) -> int:
        """To *shift* days from today; a time on that day."""
        seconds = (TODAY + shift) * 86_400 + 3_600
        self._monkeypatch.setattr(partitions, "KEYS", self._query.replace("now()", f"to_timestamp({seconds})"))
        return seconds * 10**9


def parts(database: Database, table: str = "llmobs_spans") -> dict[str, int]:
    """How many rows each partition of a table has, by what its name ends in."""
    with database.read() as connection:
        query = f"SELECT tableoid::regclass::text, count(*) FROM {table} GROUP BY 1 ORDER BY 1"
        return {name.removeprefix(f"{table}_"): count for name, count in connection.exec_driver_sql(query)}


def date(shift: int) -> str:
    return time.strftime("%Y%m%d", time.gmtime((TODAY + shift) * 86_400))


def test_partitions_are_made_ahead(database: Database, calendar: Calendar) -> None:
    """At the first row those of the next days too, so that none has to be made at midnight, under load."""
    Sink(database).write([request(start_ns=calendar.turn(0), properties={"plan": "pro"})])
    with database.read() as connection:
        assert [day.number - TODAY for day in days(connection)] == [0, 1, 2]
    for table in PARTITIONED:
        assert set(parts(database, table.name)) <= {date(0)}

    Sink(database).write([request(start_ns=calendar.turn(2))])
    with database.read() as connection:
        assert [day.number - TODAY for day in days(connection)] == [0, 1, 2, 3, 4]
    assert parts(database) == {date(0): 1, date(2): 1}


def test_after_a_pause(database: Database, calendar: Calendar) -> None:
    """Days on which nothing came need no partition."""
    Sink(database).write([request(start_ns=calendar.turn(-20))])
    Sink(database).write([request(start_ns=calendar.turn(0))])

    with database.read() as connection:
        assert [day.number - TODAY for day in days(connection)] == [-20, -19, -18, 0, 1, 2]


def test_one_call_over_midnight(database: Database, calendar: Calendar) -> None:
    """Its end is put to its beginning, which lies in the partition of the day before."""
    late = calendar.turn(-1) + 20 * 3_600 * 10**9
    running = request(start_ns=late, outcome="running", duration_ns=None, properties={"plan": "pro"})
    Sink(database).write([running])
    calendar.turn(0)
    for _ in range(2):
        assert Sink(database).write([replace(running, outcome="ok", duration_ns=DAY_NS // 6)]) == (1, 0)

    assert parts(database) == parts(database, "llmobs_properties") == {date(-1): 1}
    assert [row.outcome for row in list_requests(database, Filter()).rows] == ["ok"]


@pytest.mark.parametrize("shift", [-400, -3, -1, 0, 1, 3, 400, 80_000])
def test_a_replay_days_later(database: Database, calendar: Calendar, shift: int) -> None:
    """A record is known again on any later day, wherever its own clock stood."""
    calendar.turn(0)
    one = request(start_ns=(TODAY + shift) * DAY_NS)
    for later in (0, 0, 1, 5):
        calendar.turn(later)
        assert Sink(database).write([one, request(start_ns=(TODAY + later) * DAY_NS)]) == (2, 0)

    assert sum(parts(database).values()) == 5
    assert get_request(database, one.id, project="default") is not None
    assert ("far" in parts(database)) == (shift > 1)


def test_a_time_range_spares_earlier_partitions(database: Database, calendar: Calendar) -> None:
    """A condition on the time is one on the key: the plan has no earlier days."""
    for shift in (-9, -5, 0):
        Sink(database).write([request(start_ns=calendar.turn(shift))])
    since = (TODAY - 1) * DAY_NS
    with database.read() as connection:
        where = f"start_ns >= {since} AND key >= {first_key(since)}"
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN SELECT 1 FROM llmobs_spans WHERE {where}").scalars())
        assert date(0) in plan and date(-5) not in plan and date(-9) not in plan

    assert len(list_requests(database, Filter(since_ns=since)).rows) == 1
    assert len(list_requests(database, Filter(since_ns=since - 5 * DAY_NS)).rows) == 2


def test_days_that_were_emptied_are_dropped(database: Database, calendar: Calendar) -> None:
    """Retention takes out traces one by one; the partition of a past day goes with the last of them."""
    for shift in (-9, -5, 0):
        Sink(database).write([request(start_ns=calendar.turn(shift), properties={"plan": "pro"}) for _ in range(3)])
    calendar.turn(0)
    gone = prune(database, Retention(spans=3), now_ns=(TODAY + 1) * DAY_NS)

    assert gone.spans == 6
    with database.read() as connection:
        assert [day.number - TODAY for day in days(connection)] == [0, 1, 2]
    assert parts(database) == parts(database, "llmobs_contents") == {date(0): 3}


def test_tables_from_before_the_partitions(postgres: str) -> None:
    """They are no release's: whoever has them is told what to do, and nothing is touched."""
    with postgres_database(postgres) as url:
        as_admin(url, "CREATE SCHEMA llmobs; CREATE TABLE llmobs.llmobs_spans (key bigint PRIMARY KEY)")
        with pytest.raises(StoreError, match="drop its schema"):
            Sink(Database(url)).write([request()])
        as_admin(url, "DROP SCHEMA llmobs CASCADE")

        database = Database(url)
        assert Sink(database).write([request()]) == (1, 0)
        database.dispose()
