"""Erasure: of what was erased no byte is left, anywhere, and what was not named stays."""

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from asgi_llmobs import LLMObs, cli
from asgi_llmobs.erasure import Erased, clean, erase, mentions, take_out
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.requests import list_requests
from asgi_llmobs.queries.sessions import list_sessions
from asgi_llmobs.recompute import recompute
from asgi_llmobs.records import Span
from asgi_llmobs.store import removal
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.pins import pin
from asgi_llmobs.store.tables import metadata
from asgi_llmobs.store.write import Sink
from tests.making import request, span

NEEDLE = "xylophonically"
TRACES = 16  # of the one who goes
WORDS = f"tell {NEEDLE} nothing"


def about(user: str, session: str, trace: str, **given: Any) -> list[Span]:
    """A trace that says it everywhere where something can be said."""
    first = request(
        WORDS, WORDS, user_id=user, session_id=session, session_name=session, trace_id=trace, name=WORDS,
        properties={NEEDLE: NEEDLE}, outcome="error", error_message=WORDS, attributes={"a": WORDS}, **given,
    )  # fmt: skip
    return [first, span(trace_id=trace, parent_id=first.id, input=WORDS, output=WORDS)]


def fill(database: Database) -> list[Span]:
    """The same words for one who goes, in many batches, between others who stay."""
    sink = Sink(database)
    kept = [request("What is Rome?", user_id="kept", session_id="kept") for _ in range(3 * TRACES)]
    gone: list[Span] = []
    for number in range(TRACES):
        made = about(f"{NEEDLE}-u", f"{NEEDLE}-s{number % 3}", f"{number:032x}")
        sink.write([*made, *kept[number * 3 : number * 3 + 3]])
        gone += made
    pin(database, "default", gone[0].trace_id)
    return gone


def left_in(database: Database, folder: Path, needle: str) -> list[str]:
    """Where the database still has it: files of a SQLite one, tables of PostgreSQL."""
    if database.sqlite:
        return [path.name for path in folder.rglob("*") if path.is_file() and needle.encode() in path.read_bytes()]
    with database.read() as connection:
        found = []
        for table in metadata.tables:
            held = f"position(convert_to('{needle}', 'UTF8') in convert_to(t::text, 'UTF8')) > 0"
            if connection.exec_driver_sql(f"SELECT count(*) FROM {table} t WHERE {held}").scalar():
                found.append(table)
        return found


@pytest.mark.parametrize("what", ["user", "session", "trace", "id"])
def test_nothing_is_left(database: Database, tmp_path: Path, what: str) -> None:
    """Neither in tables nor index, nor in the log or the free pages of a file; the totals know nothing of it."""
    gone = fill(database)
    assert left_in(database, tmp_path, NEEDLE)
    if what == "user":
        assert erase(database, project="default", user=f"{NEEDLE}-u") == Erased(TRACES, 2 * TRACES)
    elif what == "session":
        for number in range(3):
            assert erase(database, project="default", session=f"{NEEDLE}-s{number}").left is None
    elif what == "trace":
        for number in range(1, TRACES):
            assert take_out(database, project="default", trace=f"{number:032x}") == (1, 2)
        assert erase(database, project="default", trace=f"{0:032x}") == Erased(1, 2)
    else:
        for one in gone[1:]:
            assert take_out(database, project="default", id=one.id) == (0, 1)
        assert erase(database, project="default", id=gone[0].id) == Erased(0, 1)

    assert left_in(database, tmp_path, NEEDLE) == []
    assert left_in(database, tmp_path, "kept") != []
    assert list_requests(database, Filter(text="rome")).count == list_requests(database, Filter()).count == 3 * TRACES
    assert [row.session_id for row in list_sessions(database, Filter()).rows] == ["kept"]
    assert list(recompute(database, check=True)) == []


def test_pages_keep_no_pieces(tmp_path: Path) -> None:
    """Rows that SQLite moved from page to page before they went have left nothing where they had been."""
    database, chance = Database(f"sqlite:///{tmp_path}/llmobs.db"), random.Random(5)

    def anything() -> str:
        return chance.randbytes(16).hex()

    for _ in range(120):
        names = [anything() * chance.randrange(1, 4) for _ in range(3)]
        made = [request(user_id="kept", trace_id=anything(), name=name, session_id=anything()) for name in names]
        Sink(database).write([*made, *about(f"{NEEDLE}-u", f"{anything()}-{NEEDLE}", anything())])

    assert take_out(database, project="default", user=f"{NEEDLE}-u") == (120, 240)
    for _ in removal.shrink(database, whole=True):
        pass
    assert NEEDLE.encode() in (tmp_path / "llmobs.db").read_bytes()  # so much for overwriting what is deleted
    assert clean(database) is None
    assert left_in(database, tmp_path, NEEDLE) == []
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        assert connection.exec_driver_sql("PRAGMA auto_vacuum").scalar() == 2
    assert list_requests(database, Filter()).count == 360
    database.dispose()


def test_tables_of_others_in_the_file(tmp_path: Path) -> None:
    """A file that somebody else has tables in is not written anew behind their back, and that is said."""
    with closing(sqlite3.connect(tmp_path / "llmobs.db")) as theirs:
        theirs.execute("CREATE TABLE other (words TEXT)")
    database = Database(f"sqlite:///{tmp_path}/llmobs.db")
    gone = fill(database)

    said = erase(database, project="default", user=f"{NEEDLE}-u")

    assert (said.traces, said.spans) == (TRACES, len(gone)) and said.left is not None and "VACUUM" in said.left
    assert list_requests(database, Filter(text=NEEDLE)).count == 0
    database.dispose()


def test_who_reads_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that holds on to an older state is not disturbed, and what it keeps in the log is told."""
    monkeypatch.setattr("asgi_llmobs.erasure.CLEAN_SECONDS", 0.5)
    database = Database(f"sqlite:///{tmp_path}/llmobs.db")
    fill(database)
    with database.read() as connection:
        count = connection.exec_driver_sql("SELECT count(*) FROM llmobs_spans").scalar()
        said = erase(database, project="default", user=f"{NEEDLE}-u").left
        assert connection.exec_driver_sql("SELECT count(*) FROM llmobs_spans").scalar() == count

    assert said is not None and "reader" in said
    assert clean(database) is None and left_in(database, tmp_path, NEEDLE) == []
    database.dispose()


def test_who_writes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who does not let go of the file keeps it from being written anew: that is told, not raised."""
    monkeypatch.setattr("asgi_llmobs.erasure.CLEAN_SECONDS", 0.0)
    database = Database(f"sqlite:///{tmp_path}/llmobs.db")
    fill(database)
    rewrite = Database.rewrite

    def locked(self: Database) -> bool:
        with closing(sqlite3.connect(tmp_path / "llmobs.db", isolation_level=None)) as theirs:
            theirs.execute("BEGIN IMMEDIATE")
            return rewrite(self)

    monkeypatch.setattr(Database, "rewrite", locked)
    said = erase(database, project="default", user=f"{NEEDLE}-u")
    monkeypatch.undo()

    assert said.spans == 2 * TRACES and said.left is not None and "locked" in said.left
    assert clean(database) is None and left_in(database, tmp_path, NEEDLE) == []
    database.dispose()


def test_only_what_is_named(database: Database) -> None:
    """The same user of another project, and others of this one, stay; a request alone leaves its trace."""
    mine, theirs = request(user_id="u"), request(user_id="u", project="other")
    both = request(trace_id="a" * 32), request(trace_id="a" * 32)
    Sink(database).write([mine, theirs, *both])

    assert erase(database, project="default", user="u").traces == 1
    assert erase(database, project="default", id=both[0].id) == Erased(0, 1)
    assert erase(database, project="default", user="nobody") == Erased(0, 0)
    assert {row.id for row in list_requests(database, Filter()).rows} == {both[1].id}
    assert list_requests(database, Filter(project="other")).count == 1


class TestCommand:
    @pytest.fixture
    def obs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LLMObs]:
        """An app with a durable spool, in this process."""
        monkeypatch.setenv("LLMOBS_DATABASE_URL", f"sqlite:///{tmp_path}/data/llmobs.db")
        monkeypatch.setenv("LLMOBS_SPOOL_BYTES", str(64 * 1024 * 1024))
        obs = LLMObs(instrument="off")
        yield obs
        obs.close()

    def test_what_waits_goes_too(self, obs: LLMObs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """What a running process stores meanwhile is erased from the store too, and nothing is left where it waited."""
        Sink(obs.database).write(about(f"{NEEDLE}-u", "s", "a" * 32))
        obs.spool.put(span(user_id=f"{NEEDLE}-u", input=WORDS))
        assert list(mentions(str(tmp_path / "data" / "spool"), [f"{NEEDLE}-u"]))
        obs.start()

        assert cli.main(["erase", "--user", f"{NEEDLE}-u"]) == 0
        assert "erased" in capsys.readouterr().out
        files = (tmp_path / "data").glob("llmobs.db*")
        assert [path.name for path in files if NEEDLE.encode() in path.read_bytes()] == []
        assert list(mentions(str(tmp_path / "data" / "spool"), [NEEDLE])) == []

    def test_says_what_it_cannot_reach(
        self, obs: LLMObs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A process that cannot store holds on to its calls, and a damaged file that was put aside is named."""
        monkeypatch.setattr("asgi_llmobs.cli.erase.ERASE_ATTEMPTS", 1)
        Sink(obs.database).write([request()])
        obs.spool.put(span(user_id=f"{NEEDLE}-u"))
        (tmp_path / "data" / "llmobs.db.corrupt-1").write_text("torn")

        assert cli.main(["erase", "--user", f"{NEEDLE}-u"]) == 1
        said = capsys.readouterr().out
        assert "wait there" in said and "llmobs.db.corrupt-1: " in said

    def test_recompute(self, obs: LLMObs, capsys: pytest.CaptureFixture[str]) -> None:
        """A check says what differs and fails; the command puts it right."""
        Sink(obs.database).write([request(session_id="s", start_ns=time.time_ns())])
        assert cli.main(["recompute", "--check"]) == 0
        with obs.database.write() as connection:
            connection.exec_driver_sql("UPDATE llmobs_sessions SET requests = 7")
            connection.exec_driver_sql("DELETE FROM llmobs_rollups")

        assert cli.main(["recompute", "--check"]) == 1
        said = capsys.readouterr().out
        assert "llmobs_sessions default s: requests 7 instead of 1" in said and "is missing" in said
        assert "2 differences" in said
        assert cli.main(["recompute"]) == 0
        assert cli.main(["recompute", "--check"]) == 0
        assert cli.main(["recompute", "--project", "default"]) == 0
