"""One request in full, its neighbours, and finding it by any of its ids."""

import pytest

from asgi_llmobs.queries.requests import find_request, get_request
from asgi_llmobs.queries.status import store_status
from asgi_llmobs.records import Body
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.tables import SCHEMA_VERSION
from asgi_llmobs.store.write import Sink
from tests.making import START, body, request, span


def test_neighbours_and_trace(database: Database) -> None:
    """A request knows the next newer and older one of the list, and its trace in one line."""
    calls = [request(start_ns=START + number // 2, trace_id="a" * 32) for number in range(4)]
    Sink(database).write([*calls, span(trace_id="a" * 32, name="POST /chat", kind="http", start_ns=START - 1)])
    found = [get_request(database, one.id, project="default") for one in calls]

    assert [one and one.newer_id for one in found] == [calls[1].id, calls[2].id, calls[3].id, None]
    assert [one and one.older_id for one in found] == [None, calls[0].id, calls[1].id, calls[2].id]
    trace = found[0] and found[0].trace
    assert trace and (trace.name, trace.node_count, trace.span_count) == ("POST /chat", 4, 5)


def test_streams_are_read_from_their_chunks(database: Database) -> None:
    """The text of a stored stream is put together again from its events."""
    events = b"".join(
        b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % word for word in (b"Bon", b"jour", b"!")
    )
    given = request(
        stream=True, framing="sse", response_body=body(events + b"data: [DONE]\n\n", "text/event-stream"),
        response_headers=(("content-type", "text/event-stream"),),
    )  # fmt: skip
    Sink(database).write([given])
    found = get_request(database, given.id, project="default")

    assert found is not None and found.request.text == "Bonjour!"
    assert found.request.response_body == given.response_body


def test_host_that_nobody_knows(database: Database) -> None:
    """A request to a host of the user's own is read in the dialect it was stored with."""
    given = request(url="http://127.0.0.1:9/custom/place", provider="mine")
    Sink(database).write([given])
    found = get_request(database, given.id, project="default")

    assert found is not None and found.request.text == "Paris, of course."
    assert found.request.messages == given.messages


def test_omitted_sides_are_told(database: Database) -> None:
    """The page can say that a body was left out, rather than that there was none."""
    given = request(request_body=None, response_body=Body(content=b""))
    Sink(database).write([given])
    found = get_request(database, given.id, project="default")

    assert found is not None
    assert (found.input_omitted, found.output_omitted) == (True, False)


@pytest.mark.parametrize("field", ["id", "request_id", "response_id", "provider_request_id"])
def test_found_by_any_id(database: Database, field: str) -> None:
    """Whichever id somebody pastes, the request is found, in its project only."""
    wanted = request(request_id="custom-request-id-123")
    Sink(database).write([request(), wanted, request()])
    id = getattr(wanted, field)

    assert find_request(database, f" {id} ", "default") == wanted.id
    assert find_request(database, id, "other") is None


def test_repeated_request_id(database: Database) -> None:
    """An id that the app sends twice overwrites nothing; the newer request is found."""
    first, second = request(request_id="same"), request(request_id="same")
    for one in (first, second):
        Sink(database).write([one])

    assert find_request(database, "same", "default") == second.id
    assert get_request(database, first.id, project="default") is not None


def test_nothing_there(database: Database) -> None:
    """What does not exist is none, also in an empty database."""
    assert get_request(database, "0" * 16, project="default") is None
    assert find_request(database, "x", "default") is None


def test_status_counts(database: Database) -> None:
    """The figures of the store are those of one project."""
    Sink(database).write([
        request(start_ns=START, session_id="s"), request(start_ns=START + 5, provider="anthropic"), span(),
        request(project="other", start_ns=START + 9),
    ])  # fmt: skip
    found = store_status(database, project="default")

    assert (found.requests, found.spans, found.traces, found.sessions) == (2, 3, 3, 1)
    assert (found.oldest_ns, found.newest_ns) == (START, START + 5)
    assert found.by_provider == {"openai": 1, "anthropic": 1}
    assert found.backend == database.address.get_backend_name()
    assert (found.location, found.schema_version) == (database.location, SCHEMA_VERSION)
    assert found.size_bytes is not None and found.size_bytes > 8192


def test_status_of_nothing(database: Database) -> None:
    """An empty store has figures too."""
    found = store_status(database, project="default")

    assert (found.requests, found.oldest_ns, found.by_provider) == (0, None, {})
