"""What was said of a trace late: put on its stored spans that say nothing themselves."""

import asyncio
from pathlib import Path
from typing import Any

from asgi_llmobs import LLMObs, LLMObsMiddleware, annotate
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.requests import list_requests
from asgi_llmobs.queries.sessions import get_session, list_sessions
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.calling import ask, drive, reply
from tests.making import request, span

SAID = "name, session_id, session_name, session_path, user_id, properties"


def said(database: Database) -> list[tuple[Any, ...]]:
    """What the stored spans say of session, user and properties."""
    with database.read() as connection:
        rows = connection.exec_driver_sql(f"SELECT {SAID} FROM llmobs_spans ORDER BY key")
        return [tuple(row) for row in rows]


def test_a_root_spreads_what_it_says(tmp_path: Path) -> None:
    """Spans stored before get it, what they say themselves stays, other traces and projects are left alone."""
    database = Database(f"sqlite:///{tmp_path / 'llmobs.db'}")
    sink = Sink(database)
    trace = "a" * 32
    sink.write(
        [
            request(trace_id=trace, name="silent"),
            request(trace_id=trace, name="own", session_id="mine", user_id="me", properties={"Plan": "own"}),
            request(trace_id="b" * 32, name="stranger"),
            request(trace_id=trace, project="elsewhere", name="elsewhere"),
        ]
    )
    root = span(
        trace_id=trace, kind="http", name="root", session_id="s", session_name="n", session_path="/p", user_id="u",
        properties={"plan": "pro", "k": "v"}, spread=True,
    )  # fmt: skip
    for _ in range(2):  # a replay changes nothing
        assert sink.write([root]) == (1, 0)
        assert said(database) == [
            ("silent", "s", "n", "/p", "u", '{"plan":"pro","k":"v"}'),
            ("own", "mine", "n", "/p", "me", '{"k":"v","Plan":"own"}'),
            ("stranger", None, None, None, None, None),
            ("elsewhere", None, None, None, None, None),
            ("root", "s", "n", "/p", "u", '{"plan":"pro","k":"v"}'),
        ]
    session = get_session(database, "s", project="default")
    assert session is not None and session.session.request_count == 1
    found = [row.name for row in list_requests(database, Filter(properties=(("plan", "pro"),))).rows]
    assert found == ["silent"]
    database.dispose()


def test_late_annotation_from_the_app_to_the_store(tmp_path: Path) -> None:
    """The whole way: a call is stored, then the app learns whose it is."""
    obs = LLMObs(f"sqlite:///{tmp_path}/llmobs.db", admin=None)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await ask("first")
        assert await obs.aflush()
        annotate(session="s", user="u", plan="pro")
        await ask("second")
        await reply(send)

    drive(LLMObsMiddleware(app, obs=obs))
    obs.close()

    assert {row[1:] for row in said(obs.database)} == {("s", None, None, "u", '{"plan":"pro"}')}
    assert [(row.session_id, row.request_count) for row in list_sessions(obs.database, Filter()).rows] == [("s", 2)]
    obs.close()
    assert asyncio.run(obs.aflush())
