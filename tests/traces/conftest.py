"""An engine with a store of its own, the real SDK against a provider on a socket, and trees drawn as text."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from asgi_llmobs import LLMObs, LLMObsMiddleware
from asgi_llmobs.admin import Admin
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.requests import RequestRow, list_requests
from asgi_llmobs.queries.traces import TraceRow, TraceTree, get_trace, list_traces
from asgi_llmobs.testing import FakeProvider
from tests.admin.visiting import Visitor

MODEL = "gpt-4o-mini"


class Bench:
    """What the tests of traces need, around one engine."""

    def __init__(self, obs: LLMObs, fake: FakeProvider, url: str) -> None:
        self.obs, self.fake, self.url = obs, fake, url
        self.client = OpenAI(base_url=f"{url}/v1", api_key="sk-test", max_retries=0)
        self.visitor = Visitor(Admin(database=obs.database, auth=lambda request: True, environ={}))

    def async_client(self, **options: Any) -> AsyncOpenAI:
        """A client for one event loop."""
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key="sk-test", **{"max_retries": 0, **options})

    def ask(self, node: str | None = None, said: str = "hello", **headers: str) -> str:
        """One chat call, with a Node-Id where one is given."""
        if node is not None:
            headers["Helicone-Node-Id"] = node
        answer = self.client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": said}], extra_headers=headers
        )
        return answer.choices[0].message.content or ""

    def app(self, app: Any) -> Any:
        """*app* behind the middleware."""
        return LLMObsMiddleware(app, obs=self.obs)

    def traces(self) -> list[TraceRow]:
        """The list of traces, oldest first."""
        assert self.obs.flush()
        return list(reversed(list_traces(self.obs.database, Filter()).rows))

    def requests(self) -> list[RequestRow]:
        """The list of requests, oldest first."""
        assert self.obs.flush()
        return list(reversed(list_requests(self.obs.database, Filter(), limit=500).rows))

    def tree(self) -> TraceTree:
        """The one trace there is."""
        (row,) = self.traces()
        found = get_trace(self.obs.database, row.trace_id, project=self.obs.config.project)
        assert found is not None
        return found

    def twin(self, path: str) -> Any:
        """A page as JSON."""
        assert self.obs.flush()
        answer = self.visitor.get(f"{path}.json")
        assert answer.status == 200, answer.text
        return answer.json

    def page(self, path: str) -> str:
        """A page as HTML."""
        assert self.obs.flush()
        answer = self.visitor.get(path)
        assert answer.status == 200
        return answer.text


def drawn(tree: TraceTree, name: Callable[[Any], str] = lambda node: node.node_id or node.name) -> list[str]:
    """The tree as names, a dot a level; virtual nodes in brackets, orphans with a question mark."""
    return [
        "." * (node.depth - 1) + (f"({node.id})" if node.virtual else name(node)) + ("?" if node.orphan else "")
        for node in tree.nodes
    ]


@pytest.fixture
def bench(fake: FakeProvider, fake_url: str) -> Iterator[Bench]:
    """An engine in memory whose provider stands on a socket and is priced as OpenAI."""
    obs = LLMObs("sqlite://", providers=fake.providers)
    yield Bench(obs, fake, fake_url)
    obs.close()
