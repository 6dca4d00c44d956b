"""The bulk write: once and only once, bad values alone, nothing of what is omitted."""

import sqlite3
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from asgi_llmobs.errors import StoreError
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.requests import get_request, list_requests
from asgi_llmobs.queries.sessions import get_session
from asgi_llmobs.queries.traces import get_trace, list_traces
from asgi_llmobs.records import Cost, Request, Usage
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.making import SECOND, START, attempt, body, priced, request, span

TABLES = ("spans", "contents", "attempts", "properties", "texts", "traces", "sessions")


def counts(database: Database) -> dict[str, int]:
    with database.read() as connection:
        ask = connection.exec_driver_sql
        return {name: ask(f"SELECT count(*) FROM llmobs_{name}").scalar() or 0 for name in TABLES}


def only(database: Database) -> Any:
    return list_requests(database, Filter()).rows[0]


def detail(database: Database, id: str) -> Request:
    found = get_request(database, id, project="default")
    assert found is not None
    return found.request


def test_what_goes_in_comes_out(database: Database) -> None:
    """A request is read back as the record it was, its messages from its bodies."""
    given = request(
        session_id="s", user_id="u", properties={"Environment": "prod"}, caller="app.py:1 f", request_id="mine",
        chunk_times=((5, 10), (9, 30)), warnings=("odd",), finish_reasons=("stop",), headers_ns=3,
        attributes={"a": [1, {"b": None}]}, service="web", pid=7,
    )  # fmt: skip
    assert Sink(database).write([given]) == (1, 0)
    found = detail(database, given.id)

    differs = {name for name in given.__slots__ if getattr(found, name) != getattr(given, name)}
    assert differs == {"attempts", "output_messages"}  # made when it was stored; read from the body
    assert found.output_messages[0].parts[0].content == "Paris, of course."
    assert [one.number for one in found.attempts] == [1]


def test_replay_changes_nothing(database: Database) -> None:
    """Writing the same batch again, whole or in part, leaves every table as it was."""
    sink = Sink(database)
    first = request(session_id="s", properties={"a": "b"})
    batch = [first, span(trace_id=first.trace_id), request(session_id="s", outcome="error", status=500)]
    sink.write(batch)
    before, session = counts(database), get_session(database, "s", project="default")

    assert sink.write(batch) == (3, 0)
    assert sink.write(batch[1:] + batch) == (5, 0)
    assert counts(database) == before
    assert get_session(database, "s", project="default") == session


def test_running_is_completed(database: Database) -> None:
    """The end of a call takes the place of the row that said it was running."""
    sink = Sink(database)
    done = request(session_id="s", properties={"step": "2"})
    running = replace(
        done, outcome="running", duration_ns=None, usage=None, cost=Cost(reason="still running"), request_body=None,
        response_body=None, messages=(), text="", properties={"step": "1"},
    )  # fmt: skip
    sink.write([running])
    assert (only(database).outcome, only(database).duration_ns) == ("running", None)
    sink.write([running])
    sink.write([done])
    sink.write([running])
    row, session = only(database), get_session(database, "s", project="default")

    assert (row.outcome, row.duration_ns, row.cost_usd) == ("ok", SECOND, Decimal("0.00015"))
    assert row.properties == {"step": "2"}
    assert session is not None and session.session.request_count == 1
    assert session.session.total_cost_usd == Decimal("0.00015")
    assert counts(database)["spans"] == counts(database)["properties"] == 1
    assert list_requests(database, Filter(text="paris")).count == 1


def test_running_and_its_end_in_one_batch(database: Database) -> None:
    """Both at once are one row, in either order."""
    done, other = request(), request()
    Sink(database).write([replace(done, outcome="running"), done, other, replace(other, outcome="running")])

    assert [row.outcome for row in list_requests(database, Filter()).rows] == ["ok", "ok"]


ORDERS = [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("order", ORDERS)
def test_attempts_of_one_request(database: Database, order: list[int], together: bool) -> None:
    """In whatever order its attempts come, a request is one row with the sums, the first start and the last end."""
    last = request(session_id="s", attempt=3, duration_ns=9 * SECOND)
    base = {"attempt": 1, "outcome": "error", "status": 429, "usage": None, "cost": Cost(reason="no usage")}
    own = {"outcome": "error", "status": 429, "error_type": "rate_limit"}
    tries = [
        replace(last, **base, error_type="rate_limit", duration_ns=SECOND, attempts=(attempt(last, 1, **own),)),
        replace(
            last, attempt=2, status=200, outcome="abandoned", duration_ns=4 * SECOND, cost=priced("0.0001"),
            usage=Usage(input_tokens=5, output_tokens=1),
            attempts=(
                attempt(last, 2, outcome="abandoned", cost_usd=Decimal("0.0001"), input_tokens=5, output_tokens=1),
            ),
        ),
        replace(last, attempts=(attempt(last, 3, cost_usd=last.cost.amount, input_tokens=20, output_tokens=10),)),
    ]  # fmt: skip
    sink = Sink(database)
    if together:
        sink.write([tries[place] for place in order])
    for place in order:
        sink.write([tries[place]])
    row, found = only(database), detail(database, last.id)

    assert (row.outcome, row.status, row.attempts, row.duration_ns) == ("ok", 200, 3, 9 * SECOND)
    assert (row.cost_usd, row.input_tokens, row.output_tokens) == (Decimal("0.00025"), 25, 11)
    assert [(one.number, one.outcome, one.status) for one in found.attempts][:1] == [(1, "error", 429)]
    assert len(found.attempts) == 3
    assert found.cost_usd == Decimal("0.00025") == sum(line.amount for line in found.cost.lines)
    session = get_session(database, "s", project="default")
    assert session is not None and session.session.total_cost_usd == Decimal("0.00025")
    trace = get_trace(database, last.trace_id, project="default")
    assert trace is not None and trace.total_cost_usd == Decimal("0.00025")


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_what_an_earlier_attempt_was_told(database: Database, order: list[int], together: bool) -> None:
    """Its limits, ids and the beginning of its answer stay, but not where the request it may quote is not stored."""
    headers = (("x-ratelimit-remaining-tokens", "0"), ("retry-after", "2"), ("x-request-id", "r1"), ("server", "x"))
    why = body({"error": {"message": "Rate limit reached " + "z" * 3_000}})
    for omitted in (False, True):
        last = request(attempt=2, request_body=None if omitted else body({"model": "m"}))
        first = replace(
            last, attempt=1, outcome="error", status=429, response_headers=headers, response_body=why,
            stages={"queue": 1, "send": 5},
        )  # fmt: skip
        sink, tries = Sink(database), [first, last]
        if together:
            sink.write([tries[place] for place in order])
        for place in order:
            sink.write([tries[place]])
        early, own = detail(database, last.id).attempts

        assert early.response_headers == headers[:3] and early.stages == {"queue": 1, "send": 5}
        assert (early.response_preview is None) is omitted
        assert omitted or early.response_preview == why.content.decode()[:1_999] + "…"
        assert (own.response_headers, own.response_preview) == ((), None)


def test_attempt_that_names_its_own_start(database: Database) -> None:
    """A later attempt's times count from the start of the first."""
    first = request(outcome="error", status=500, duration_ns=SECOND)
    second = replace(
        first, attempt=2, outcome="ok", status=200, start_ns=START + 3 * SECOND, duration_ns=2 * SECOND,
        first_token_ns=SECOND, properties={"a": "b"},
    )  # fmt: skip
    sink = Sink(database)
    for one in (first, second):
        sink.write([one])
    row = only(database)

    assert (row.start_ns, row.duration_ns, row.first_token_ns) == (START, 5 * SECOND, 4 * SECOND)


def test_failed_attempt_is_kept_even_alone(database: Database) -> None:
    """The single attempt of a good request needs no row, that of a failed one has one."""
    Sink(database).write([request(), request(outcome="error", status=500), request(outcome="running")])

    assert counts(database)["attempts"] == 1


CYCLE: dict[str, Any] = {}
CYCLE["again"] = CYCLE

BAD = {
    "nul": {"name": "a\0b", "user_id": "u\0", "text": "x\0y", "properties": {"k\0": "v\0"}},
    "surrogate": {"name": "a\ud800b", "session_id": "\udfff", "properties": {"\ud800": "\udc00"}},
    "surrogate in an error": {"error_message": "\ud83d", "error": {"message": "\ud83d"}},
    "huge": {"duration_ns": 2**63, "usage": Usage(input_tokens=2**70, output_tokens=-1), "status": 2**64, "pid": 2**80},
    "nan": {"usage": Usage(input_tokens=float("nan"), output_tokens=float("inf")), "attributes": {"x": float("nan")}},
    "long": {"session_id": "s" * 3_000, "request_model": "m" * 3_000, "properties": {"n" * 3_000: "v" * 3_000}},
    "times": {"start_ns": -5, "first_token_ns": 2**65, "duration_ns": -1},
    "money": {"cost": Cost(amount=Decimal("1e30"))},
    "no money": {"cost": Cost(amount=Decimal("NaN"))},
    "deep": {"attributes": {"x": __import__("functools").reduce(lambda value, _: [value], range(3_000), 1)}},
    "types": {"attributes": {1: {2, 3}, "o": object(), "b": b"\xff"}, "details": {"big": 10**400}},
    "digits": {"response_body": body(b'{"n": ' + b"9" * 5_000 + b"}"), "usage_raw": {"n": 10**5_000}},
    "exponent": {"usage_raw": {"n": float("1e400")}, "response_body": body(b'{"n": 1e400}')},
    "beyond four bytes": {"status": 2**31, "pid": 2**31, "usage": Usage(input_tokens=2**31, output_tokens=2**32)},
    "mark and twice the same": {"request_body": body(b'\xef\xbb\xbf{"model": "a", "model": "b"}')},
    "wide": {"request_body": body('{"model": "x"}'.encode("utf-16"))},
    "escapes": {"name": "\x1b[31m\u202eevil\u200b", "user_id": "\U0001f468\u200d\U0001f469", "route": "/\x9b0m"},
    "nothing": {"request_body": body(b""), "response_body": body(b"")},
    "cycle": {"attributes": CYCLE},
    "many": {"properties": {f"p{number}": "v" for number in range(3_000)}},
    "torn": {"response_body": body(b'{"choices": [{"mess\xff')},
    "garbage": {"request_body": body(b"\xff\xfe\x00"), "response_body": body(b"<html>\0")},
}


@pytest.mark.parametrize("name", BAD)
def test_bad_value_costs_nobody(database: Database, name: str) -> None:
    """Whatever one record holds, it and its neighbours are stored and can be read again."""
    bad = request(**BAD[name])
    neighbours = [request(), request()]
    assert Sink(database).write([neighbours[0], bad, neighbours[1]]) == (3, 0)

    rows = list_requests(database, Filter()).rows
    assert {row.id for row in rows} == {bad.id, *(one.id for one in neighbours)}
    assert detail(database, bad.id).id == bad.id
    assert detail(database, bad.id).request_body == bad.request_body
    assert get_trace(database, bad.trace_id, project="default") is not None


def test_long_names_stay_apart_and_can_be_found(database: Database) -> None:
    """Names that differ only beyond what is indexed are still two, and a filter with the whole name finds its own."""
    one, other = "s" * 5_000 + "1", "s" * 5_000 + "2"
    Sink(database).write([request(session_id=one), request(session_id=other), request(session_id=other)])

    assert list_requests(database, Filter(session=(one,))).count == 1
    assert list_requests(database, Filter(session=(other,))).count == 2
    found = get_session(database, other, project="default")
    assert found is not None and found.session.request_count == 2


class Unspeakable:
    """A value that cannot even be turned into text."""

    def __str__(self) -> str:
        raise ValueError("no words")

    __repr__ = __str__


def test_refused_record_is_counted_and_alone(database: Database) -> None:
    """What cannot be stored in any form is refused by itself."""
    batch: list[Any] = [request() for _ in range(7)]
    batch.insert(3, request(attributes={"x": Unspeakable()}))

    assert Sink(database).write(batch) == (7, 1)
    assert list_requests(database, Filter()).count == 7


def test_locked_database_stores_nothing_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process holds the lock the whole batch is kept for later, none of it is refused."""
    monkeypatch.setattr("asgi_llmobs.store.sqlite.BUSY_SECONDS", 0.05)
    path = tmp_path / "llmobs.db"
    database = Database(f"sqlite:///{path}")
    sink = Sink(database)
    sink.write([request()])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    batch = [request(), request()]
    with pytest.raises(StoreError, match="locked"):
        sink.write(batch)
    other.execute("ROLLBACK")
    other.close()

    assert sink.write(batch) == (2, 0)
    assert counts(database)["spans"] == 3
    database.dispose()


SECRET = "xylophonically"


@pytest.mark.parametrize("sides", [("request",), ("response",), ("request", "response")])
def test_omitted_content_is_nowhere(tmp_path: Path, sides: tuple[str, ...]) -> None:
    """Of a body that is not stored no word is in any file of the database, while its figures are."""
    path = tmp_path / "llmobs.db"
    database = Database(f"sqlite:///{path}")
    words = {side: SECRET if side in sides else "hello" for side in ("request", "response")}
    full = request(
        f"tell me {words['request']} please",
        f"surely {words['response']} it is",
        error={"type": "bad", "code": "c", "message": f"you said {SECRET}"},
        error_message=f"you said {SECRET}",
        outcome="error",
        reasoning_text=words["response"],
        refusal=words["response"],
        tool_calls=({"id": "1", "name": "f", "arguments": words["response"]},),
        tools=({"name": words["request"]},),
        parameters={"temperature": 1, "stop": [words["request"]], "response_format": {"x": words["request"]}},
        warnings=(f"odd: {SECRET}",) if "request" in sides else (),
    )
    full = replace(
        full,
        **{f"{side}_body": None for side in sides},
        attempts=(attempt(full, 1, outcome="error", error_message=f"you said {SECRET}"),),
    )
    Sink(database).write([full])
    row, found = only(database), detail(database, full.id)
    assert list_requests(database, Filter(text=SECRET)).count == 0
    database.dispose()

    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert SECRET.encode() not in content
    assert SECRET not in repr((row, found))
    assert (found.input_tokens, found.cost_usd, found.parameters["temperature"]) == (20, Decimal("0.00015"), 1)


def test_what_is_kept_is_in_the_previews(database: Database) -> None:
    """The list shows the last thing the user said and the beginning of the answer, on one line, cut."""
    Sink(database).write([request("line one\n\n  line two " + "x" * 500, "y" * 300)])
    row = only(database)

    assert row.input_preview.startswith("line one line two xxx") and len(row.input_preview) == 200
    assert row.output_preview == "y" * 199 + "…"


def test_spans_that_are_no_requests(database: Database) -> None:
    """A tool's span is in its trace with its texts, and in no list of requests."""
    tool = span(kind="tool", name="search", input="the question", output="the answer")
    Sink(database).write([tool])
    tree = get_trace(database, tool.trace_id, project="default")

    assert list_requests(database, Filter()).count == 0
    assert tree is not None and tree.nodes[0].input_preview == "the question"
    assert (tree.node_count, tree.span_count, tree.success_rate, tree.total_cost_usd) == (0, 1, None, None)


def test_projects_never_mix(database: Database) -> None:
    """The same ids in two projects are two requests, two traces and two sessions."""
    mine = request(session_id="s", project="a", properties={"k": "v"})
    theirs = replace(mine, project="b", cost=priced("5"))
    Sink(database).write([mine, theirs])

    for project, cost in (("a", "0.00015"), ("b", "5")):
        assert list_requests(database, Filter(project=project, properties=(("k", "v"),))).count == 1
        assert list_traces(database, Filter(project=project)).count == 1
        session = get_session(database, "s", project=project)
        assert session is not None and session.session.total_cost_usd == Decimal(cost)
        tree = get_trace(database, mine.trace_id, project=project)
        assert tree is not None and tree.total_cost_usd == Decimal(cost)
    assert get_request(database, mine.id, project="c") is None
    assert get_trace(database, mine.trace_id, project="c") is None


def test_truncated_bodies_keep_what_was_read(database: Database) -> None:
    """Of a body that had to be cut, the messages that were read from the whole are kept beside it."""
    given = request("what was asked")
    cut = {
        side: replace(found, content=found.content[:20], truncated=True)
        for side in ("request_body", "response_body")
        if (found := getattr(given, side)) is not None
    }
    Sink(database).write([replace(given, **cut)])
    found = detail(database, given.id)

    assert found.messages == given.messages
    assert found.text == "Paris, of course."


def test_cost_is_exact_to_the_billionth(database: Database) -> None:
    """A price of fractions of a billionth is stored as it is."""
    Sink(database).write([request(cost=priced("0.000000037512"))])

    assert only(database).cost_usd == Decimal("0.000000037512")


def test_empty_batch(tmp_path: Path) -> None:
    """Nothing to write opens nothing."""
    assert Sink(Database(f"sqlite:///{tmp_path / 'llmobs.db'}")).write([]) == (0, 0)
    assert list(tmp_path.iterdir()) == []
