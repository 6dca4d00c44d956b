"""Calls with nothing in them: no body, no answer, no events, an answer that has none; recorded, stored and shown."""

from typing import Any

import httpx
import httpx2

from asgi_llmobs import LLMObs
from asgi_llmobs.auth import allow
from asgi_llmobs.queries.requests import get_request
from tests.admin.visiting import Visitor
from tests.calling import URL

SSE = {"content-type": "text/event-stream"}
EMPTY: list[tuple[str, bytes, int, dict[str, str]]] = [  # method, what is sent, status and headers of the answer
    ("POST", b"", 200, {}),
    ("POST", b"", 204, {}),
    ("POST", b"{}", 204, {"content-length": "0"}),
    ("POST", b'{"model":"gpt-4o","messages":[]}', 200, {"content-type": "application/json"}),
    ("POST", b'{"model":"gpt-4o","messages":[],"stream":true}', 200, SSE),
    ("POST", b'{"model":"gpt-4o","tools":[],"messages":[{"role":"user","content":[]}]}', 304, {}),
    ("POST", b'{"model":"gpt-4o"}', 200, {"content-encoding": "gzip"}),
    ("HEAD", b"", 200, {"content-length": "400", "content-type": "application/json"}),
    ("OPTIONS", b"", 204, {}),
    ("GET", b"", 204, {}),
]


def answers(family: Any, client: Any) -> list[Any]:
    """What the app gets, call by call."""
    found: list[Any] = []
    for method, content, *_ in EMPTY:
        try:
            got = client.request(method, URL, content=content)
        except family.DecodingError as error:
            found.append(type(error))
        else:
            found.append((got.status_code, got.content, got.headers.raw, got.is_closed))
    return found


def silent(family: Any) -> Any:
    """A model that says nothing, each time in another way."""
    left = list(EMPTY)

    def handle(request: Any) -> Any:
        _, _, status, headers = left.pop(0)
        return family.Response(status, headers=headers, stream=family.ByteStream(b""))

    return family.MockTransport(handle)


def test_p45_calls_with_nothing_in_them(database_url: str) -> None:
    """The app gets what it gets without us; each POST is one record, and its pages open."""
    bare = [answers(family, family.Client(transport=silent(family))) for family in (httpx, httpx2)]
    obs = LLMObs(database_url, instrument="off")
    got = [answers(family, obs.wrap(family.Client(transport=silent(family)))) for family in (httpx, httpx2)]
    assert got == bare
    assert obs.flush(40)
    stats, visitor = obs.stats(), Visitor(obs.admin(auth=allow(lambda request: True)))
    rows = visitor.get("/requests.json").json["rows"]

    assert len(rows) == stats.captured == stats.stored >= 2 * sum(method == "POST" for method, *_ in EMPTY)
    assert visitor.get("/requests").status == 200
    for row in rows:
        pages = [visitor.get(f"/requests/{row['id']}{ending}").status for ending in ("", ".json")]
        assert pages == [200, 200], row
        found = get_request(obs.database, row["id"], project="default")
        assert found is not None and found.request.usage is None, row
        body = found.request.response_body
        assert body is None or body.size == 0
    assert dict(stats.failures) == {}
    obs.close()
