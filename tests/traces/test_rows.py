"""What users of tracing ask for, one test a wish."""

import asyncio
import json
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from asgi_llmobs import LLMObs, LLMObsMiddleware, annotate, current_trace_id, observe, record_call, span, trace
from asgi_llmobs.capture.commit import commit
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.requests import list_requests
from asgi_llmobs.queries.traces import list_traces
from asgi_llmobs.store.write import Sink
from asgi_llmobs.testing import Captured
from tests.admin.reading import read
from tests.admin.visiting import Visitor
from tests.calling import ask, ask_sync, drive, reply
from tests.making import SECOND, START, request
from tests.traces.conftest import MODEL, Bench, drawn


def test_T1_the_tree_of_one_run(bench: Bench) -> None:
    """Each node says what it cost, how long it took, its tokens and how it ended."""
    bench.ask("run")
    bench.ask("run:step")
    tree = bench.tree()
    page = read(bench.page(f"/traces/{tree.trace_id}?node={tree.nodes[1].id}"))

    for node in tree.nodes:
        assert node.cost_usd and node.duration_ns and node.input_tokens and node.output_tokens and node.outcome == "ok"
    for text in ("Total cost", "Total duration", "duration", "tokens", "cost", f"chat {MODEL}", "ok"):
        assert text in page.text, text


def test_T2_tree_and_timeline(bench: Bench) -> None:
    """The same data as a tree and in the order of time."""
    root = request(trace_id="a" * 32, name="root", duration_ns=9 * SECOND)
    first = request(trace_id="a" * 32, parent_id=root.id, name="first", start_ns=START + 1)
    second = request(trace_id="a" * 32, parent_id=root.id, name="second", start_ns=START + 2)
    below = request(trace_id="a" * 32, parent_id=first.id, name="below", start_ns=START + 3)
    Sink(bench.obs.database).write([root, first, second, below])

    def names(query: str) -> list[str]:
        nodes = bench.visitor.get(f"/traces/{'a' * 32}.json{query}").json["nodes"]
        return [node["name"] for node in nodes]

    assert names("") == ["root", "first", "below", "second"]
    assert names("?order=start") == ["root", "first", "second", "below"]


def test_T14_from_a_request_to_its_tree(bench: Bench) -> None:
    """One click from the page of a request leads to its tree, with its node selected."""
    bench.ask("a")
    bench.ask("a:b")
    call = bench.requests()[1]
    page = read(bench.page(f"/requests/{call.id}"))
    (link,) = {href for href in page.links() if f"traces/{call.trace_id}" in href and call.id in href}
    shown = bench.page("/traces/" + link.partition("traces/")[2].partition("#")[0])
    selected = [attrs for _, attrs in read(shown).tags if attrs.get("id") == "node"]

    assert len(selected) == 1 and "on" in selected[0]["class"]
    assert bench.visitor.get(f"/traces/{call.trace_id}.json?node={call.id}").json["selected"]["id"] == call.id


def test_T21_deep(bench: Bench) -> None:
    """Sixty levels: every one can be reached, the indent is bounded, the way to a node is written out."""
    path = ""
    for level in range(60):
        path = f"{path}:n{level}" if path else "n0"
        if level % 3 == 0 or level == 59:
            bench.ask(path)
    tree = bench.tree()
    page = bench.page(f"/traces/{tree.trace_id}?node={tree.nodes[-1].id}")

    assert (tree.max_depth, tree.node_count, tree.virtual_count) == (60, 21, 39)
    assert 'class="label d10"' in page and "label d11" not in page
    assert "54 more" in page


def test_T23_a_node_that_fails(bench: Bench) -> None:
    """It is red and says why; its siblings are recorded and the tree is no full success."""
    bench.fake.script(when="broken", status=400, message="too long")
    for node, said in (("job:a", "fine"), ("job:b", "broken"), ("job:c", "fine")):
        try:
            bench.ask(node, said)
        except Exception as error:
            assert "too long" in str(error)
    tree = bench.tree()
    failed = tree.nodes[2]
    page = bench.page(f"/traces/{tree.trace_id}?node={failed.id}")

    assert [node.outcome for node in tree.nodes[1:]] == ["ok", "error", "ok"]
    assert tree.success_rate is not None and round(tree.success_rate, 3) == 0.667
    assert "too long" in page and 'class="err"' in page


def test_T26_properties_on_nodes(bench: Bench) -> None:
    """A property stands on its node and finds it."""
    bench.ask("n", **{"Helicone-Property-Tenant": "acme"})
    bench.ask("n:m", **{"Helicone-Property-Tenant": "other"})
    tree = bench.tree()

    assert "acme" in bench.page(f"/traces/{tree.trace_id}?node={tree.nodes[0].id}")
    rows = bench.visitor.get("/requests.json?property=tenant%3Dacme").json["rows"]
    assert [row["id"] for row in rows] == [tree.nodes[0].id]


def calling(said: str) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await ask(said)
        await reply(send)

    return app


def test_P1_from_end_to_end(bench: Bench) -> None:
    """The incoming request is the root with method, path and status; the call below it has its input and output."""
    TestClient(bench.app(calling("in and out"))).get("/chat")
    tree = bench.tree()
    root, call = tree.nodes

    assert (root.kind, root.name, root.status, call.parent_id) == ("http", "GET /chat", 200, root.id)
    assert "in and out" in str(call.input_preview) and "in and out" in str(call.output_preview)


SILENT = """
import asyncio, logging
logging.basicConfig(level=logging.INFO)
logging.getLogger("httpx").setLevel(logging.WARNING)
from tests.calling import ask, drive, reply
from asgi_llmobs import LLMObsMiddleware
async def app(scope, receive, send):
    await ask()
    await reply(send)
drive(LLMObsMiddleware(app))
"""


def test_P2_P4_silence(tmp_path: Path) -> None:
    """Import, middleware and first call print nothing and advise nothing; at most one line says that it started."""
    done = subprocess.run(
        [sys.executable, "-c", SILENT], capture_output=True, text=True, timeout=50, cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
    assert len([line for line in done.stderr.splitlines() if line.strip()]) <= 1, done.stderr


def test_P3_nothing_to_choose(tmp_path: Path) -> None:
    """A script that simply ends loses nothing: it is stored then, or by the next process that has the store."""
    store = f"sqlite:///{tmp_path / 'llmobs.db'}"
    code = (
        "from tests.calling import ask_sync\nfrom asgi_llmobs import LLMObs\n"
        f"LLMObs('{store}')\nfor n in range(5): ask_sync(str(n))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50, cwd=Path(__file__).parents[2])
    obs = LLMObs(store)
    obs.start()
    deadline = time.monotonic() + 40
    while len(rows := list_requests(obs.database, Filter()).rows) < 5 and time.monotonic() < deadline:
        time.sleep(0.1)
    obs.close()
    assert sorted(row.output_preview for row in rows) == ["0", "1", "2", "3", "4"]


def test_P5_the_global_provider_is_left_alone(llmobs: Captured) -> None:
    """OpenTelemetry's provider is the same object before and after, and gets no span of ours."""
    otel = pytest.importorskip("opentelemetry.trace")
    before = otel.get_tracer_provider()
    with trace("job"):
        ask_sync()
    assert otel.get_tracer_provider() is before
    assert not otel.get_current_span().get_span_context().is_valid


def test_P7_where_it_was_called(bench: Bench) -> None:
    """A node says the app's own file, line and function, and the host, process and release it ran in."""

    def in_my_code() -> None:
        bench.ask("here")

    in_my_code()
    tree = bench.tree()
    where = bench.twin(f"/traces/{tree.trace_id}")["detail"]["where"]
    caller = tree.nodes[0].caller or ""

    assert "conftest.py:" in caller and caller.endswith(" Bench.ask")
    assert where["host"] and where["pid"]
    assert where.get("release") == commit()  # there is none outside a repository
    assert where["host"] in bench.page(f"/traces/{tree.trace_id}")


def test_P8_the_settings_of_a_call(bench: Bench) -> None:
    """Temperature and its like stand on the page of the call."""
    bench.client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "hi"}], temperature=0.25, top_p=0.5, seed=7
    )
    page = read(bench.page(f"/requests/{bench.requests()[0].id}")).text
    for text in ("temperature", "0.25", "top_p", "0.5", "seed", "7"):
        assert text in page, text


def test_P9_P10_tokens_and_cost_on_the_row(bench: Bench) -> None:
    """Nobody has to open a call to see its tokens and its price; trace and session add them up."""
    bench.ask("x", **{"Helicone-Session-Id": "s"})
    (row,) = bench.twin("/requests")["rows"]
    (listed,) = bench.twin("/traces")["rows"]
    session = bench.twin("/sessions/s")["session"]

    assert row["input_tokens"] > 0 and row["output_tokens"] > 0 and row["cost_usd"] > 0
    assert listed["total_cost_usd"] == session["total_cost_usd"] == row["cost_usd"]


def test_P11_two_calls_in_one_function(llmobs: Captured) -> None:
    """In a request one trace without a decorator; in a script with a decorator or a block."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await ask("one")
        await ask("two")
        await reply(send)

    TestClient(LLMObsMiddleware(app, obs=LLMObs())).get("/")
    assert len({call.trace_id for call in llmobs.requests}) == 1
    llmobs.clear()

    @observe
    def job() -> None:
        ask_sync("one")
        ask_sync("two")

    job()
    with trace("block"):
        ask_sync("three")
        ask_sync("four")
    assert [len({call.trace_id for call in pair}) for pair in (llmobs.requests[:2], llmobs.requests[2:])] == [1, 1]


def test_P12_the_name_of_a_span(llmobs: Captured) -> None:
    """The function's own, or the one that is given."""

    @observe
    def mine() -> None: ...

    @observe(name="better")
    def other() -> None: ...

    mine()
    other()
    assert [each.name for each in llmobs.spans] == ["mine", "better"]


KINDS = ("llm", "agent", "chain", "tool", "retriever", "embedding", "reranker", "guardrail", "evaluator", "prompt")


@pytest.mark.parametrize("kind", KINDS)
def test_P13_every_kind_on_everything(kind: str, llmobs: Captured) -> None:
    """One decorator on sync and async functions, both kinds of generators, methods and classes."""

    @observe(kind=kind)
    def plain() -> None: ...

    @observe(kind=kind)
    async def coroutine() -> None: ...

    @observe(kind=kind)
    def generator() -> Iterator[int]:
        yield 1

    @observe(kind=kind)
    async def stream() -> AsyncIterator[int]:
        yield 1

    @observe(kind=kind)
    class Tools:
        def method(self) -> None: ...
        @classmethod
        def class_method(cls) -> None: ...
        @staticmethod
        def static_method() -> None: ...

    async def main() -> None:
        await coroutine()
        assert [item async for item in stream()] == list(generator()) == [1]

    plain()
    asyncio.run(main())
    Tools().method()
    Tools.class_method()
    Tools.static_method()
    names = {"plain", "coroutine", "generator", "stream", "method", "class_method", "static_method"}
    assert {(each.name, each.kind) for each in llmobs.spans} == {(name, kind) for name in names}


def test_P14_a_trace_row_is_a_trace(bench: Bench) -> None:
    """The list of traces has one row a trace, however many spans it has; every call has its own list."""
    bench.ask("a")
    bench.ask("a:b")
    assert (len(bench.twin("/traces")["rows"]), len(bench.twin("/requests")["rows"])) == (1, 2)


def test_P15_a_chat_and_an_embedding_in_one_trace(bench: Bench) -> None:
    """Both calls inside one block are one tree."""
    with trace("both"):
        bench.client.embeddings.create(model="text-embedding-3-small", input="x")
        bench.ask()
    assert [node.kind for node in bench.tree().nodes] == ["span", "embedding", "llm"]


def test_P16_nested_and_sequential(llmobs: Captured) -> None:
    """Three decorated functions, called inside each other or one after the other in one, are one trace."""

    @observe(kind="tool")
    def inner() -> None:
        ask_sync()

    @observe(kind="chain")
    def middle() -> None:
        inner()
        inner()

    @observe(kind="agent")
    def outer() -> None:
        middle()
        with span("by hand"):
            inner()

    outer()
    assert len(llmobs.traces) == 1
    assert [each.name for each in llmobs.spans if each.kind != "llm"] == [
        "outer", "middle", "inner", "inner", "by hand", "inner"
    ]  # fmt: skip


def test_P18_traces_and_sessions_of_one_call(bench: Bench) -> None:
    """The same headers fill both, and the page of the trace leads to the session."""
    bench.ask("a", **{"Helicone-Session-Id": "s-9", "Helicone-Session-Name": "Trip"})
    tree = bench.tree()
    assert tree.session_id == "s-9" and tree.session_name == "Trip"
    assert any(href.endswith("sessions/s-9") for href in read(bench.page(f"/traces/{tree.trace_id}")).links())


def test_N1_every_attempt(bench: Bench) -> None:
    """A retry is no second call: both attempts stand in it with status and wait, and the tree says how long."""
    bench.fake.script(status=429, retry_after=0.1)
    with trace("retried"):
        client = bench.client.with_options(max_retries=2)
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "again"}])
    tree = bench.tree()
    call = tree.nodes[1]
    shown = bench.twin(f"/requests/{call.id}")["request"]

    assert (tree.node_count, call.attempts, call.outcome) == (1, 2, "ok")
    assert [each["status"] for each in shown["attempts"]] == [429, 200]
    assert shown["attempts"][0]["retry_after"] == "0.1" and shown["attempts"][0]["error_message"]
    assert tree.retry_wait_ns == call.retry_wait_ns > 50_000_000


def test_N2_an_aborted_stream(bench: Bench) -> None:
    """It is cancelled, no error: what came is kept, and its tokens are an estimate that says so."""
    bench.fake.chunk_delay = 0.02

    async def main() -> None:
        async with bench.async_client() as client:

            async def read_on() -> None:
                stream = await client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": "a long story, please"}], stream=True
                )
                async for _ in stream:
                    seen.set()

            seen = asyncio.Event()
            task = asyncio.create_task(read_on())
            await seen.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    (row,) = bench.requests()
    shown = bench.twin(f"/requests/{row.id}")["request"]

    assert row.outcome == "cancelled" and shown["estimate"]["estimated"] and shown["usage"] is None
    assert bench.tree().error_count == 0


def test_N5_no_double_count(bench: Bench) -> None:
    """Cached tokens are inside the input, priced once; the formula and the provider's own numbers stand beside it."""
    bench.fake.script(usage={"input_tokens": 1_000, "cached_tokens": 800, "output_tokens": 10})
    bench.ask()
    shown = bench.twin(f"/requests/{bench.requests()[0].id}")["request"]
    lines = {line["bucket"]: line["tokens"] for line in shown["cost"]["lines"]}

    assert shown["usage"]["input_tokens"] == 1_000
    assert lines == {"input_uncached": 200, "cache_read": 800, "output_text": 10}
    assert "prompt_tokens" in json.dumps(shown["usage_raw"])


def test_O10_O11_O12_session_paths(bench: Bench) -> None:
    """Folders with and without slashes, doubled or never sent, are one tree with sums; a duration has the last end."""
    for number, path in enumerate(("/analyze", "analyze/summary", "/analyze//summary/", "/a/b/c")):
        Sink(bench.obs.database).write([
            request(session_id="s", session_path=path, start_ns=START + number * SECOND, duration_ns=2 * SECOND)
        ])  # fmt: skip
    twin = bench.visitor.get("/sessions/s.json?view=paths").json
    found = {node["path"]: (node["request_count"], node["virtual"]) for node in twin["paths"]}

    assert found == {
        "/": (4, True), "/analyze": (3, False), "/analyze/summary": (2, False),
        "/a": (1, True), "/a/b": (1, True), "/a/b/c": (1, False),
    }  # fmt: skip
    session = twin["session"]
    assert session["end_ns"] - session["start_ns"] == 5 * SECOND
    assert session["total_cost_usd"] == pytest.approx(4 * 0.00015)
    assert "no request" in bench.page("/sessions/s?view=paths")


def test_P17_what_a_trace_is_stands_on_the_page(bench: Bench) -> None:
    """The list says it in one line."""
    assert "everything that one incoming request or one piece of work set off" in bench.page("/traces")


def test_current_trace_id_is_in_no_log(caplog: pytest.LogCaptureFixture, llmobs: Captured) -> None:
    """Nothing is logged while traces are made."""
    with caplog.at_level(logging.INFO), trace("quiet"):
        assert current_trace_id()
        ask_sync()
    assert [each for each in caplog.records if each.name.startswith("asgi_llmobs")] == []


def test_drawn_marks_what_is_virtual(bench: Bench) -> None:
    """The drawing that these tests use tells virtual nodes apart."""
    bench.ask("v:w")
    assert drawn(bench.tree()) == ["(v)", ".v:w"]


def test_T18_nodes_are_requests(bench: Bench) -> None:
    """The node count is that of the requests; spans and virtual nodes stand beside it."""
    bench.ask("a:b:one")
    bench.ask("a:b:two")
    record_call({"city": "Tokyo"}, response="mild", kind="tool", headers={"LLMObs-Node-Id": "a:weather"})
    tree = bench.tree()
    page = read(bench.page(f"/traces/{tree.trace_id}"))

    assert (tree.node_count, tree.span_count, tree.virtual_count) == (2, 3, 2)
    assert "2 of 3 spans, 2 virtual" in page.text


def test_T19_the_deepest_level(bench: Bench) -> None:
    """Levels count from the root, those that nobody sent too."""
    for node, depth in (("t", 1), ("t:a", 2), ("t:b:c:d", 4)):
        bench.ask(node)
        assert bench.tree().max_depth == depth == max(each.depth for each in bench.tree().nodes)


@pytest.mark.parametrize("said", ["nowhere", "variable", "argument", "context", "block", "header"])
def test_P6_the_project_is_honoured_everywhere(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way to name it works, and each goes before those that are listed before it; the status page shows it."""
    ways = ["nowhere", "variable", "argument", "context", "block", "header"]
    given = ways[: ways.index(said) + 1]
    if "variable" in given:
        monkeypatch.setenv("LLMOBS_PROJECT", "variable")
    obs = LLMObs("sqlite://", **({"project": "argument"} if "argument" in given else {}))
    headers = {"llmobs-project": "header"} if "header" in given else {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if "context" in given:
            annotate(project="context")
        if "block" in given:
            with trace("inside", project="block"):
                await ask(**headers)
        else:
            await ask(**headers)
        await reply(send)

    drive(LLMObsMiddleware(app, obs=obs))
    assert obs.flush()
    project = {"nowhere": "default"}.get(said, said)
    assert len(list_requests(obs.database, Filter(project=project)).rows) == 1
    assert len(list_traces(obs.database, Filter(project=project)).rows) == 1
    status = Visitor(obs.admin(auth=lambda request: True)).get("/status").text
    assert f"project {obs.config.project}" in status
    obs.close()


def test_P10_a_price_wherever_something_is_summed_up(bench: Bench) -> None:
    """On the row, the trace, the session and the user: the same amount, of the same call."""
    bench.ask("a", **{"Helicone-Session-Id": "s", "Helicone-User-Id": "ann"})
    (row,) = bench.requests()
    found = {
        "trace": bench.twin(f"/traces/{row.trace_id}")["trace"]["total_cost_usd"],
        "session": bench.twin("/sessions")["rows"][0]["total_cost_usd"],
        "user": bench.twin("/users")["rows"][0]["user"]["total_cost_usd"],
    }

    assert row.cost_usd is not None and found == dict.fromkeys(found, float(row.cost_usd))
