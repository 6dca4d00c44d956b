"""Node-Id as documented: the examples of its documentation, told anew, and what they leave open."""

import asyncio
import itertools
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from asgi_llmobs import propagate, trace
from asgi_llmobs.capture.nodes import nodes
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.traces import get_trace, list_traces
from asgi_llmobs.store.database import Database
from tests.calling import reply
from tests.traces.conftest import MODEL, Bench, drawn


def short(tree_of: list[str], names: dict[str, str]) -> list[str]:
    """A drawn tree with unique ids replaced by what they stand for."""
    for id, name in names.items():
        tree_of = [line.replace(id, name) for line in tree_of]
    return tree_of


def test_T3_one_node(bench: Bench) -> None:
    """A call with a single id is a trace of one node."""
    bench.ask("alone")
    tree = bench.tree()

    assert drawn(tree) == ["alone"]
    assert (tree.node_count, tree.max_depth, tree.success_rate, tree.virtual_count) == (1, 1, 1.0, 0)


def test_T4_the_trip_to_tokyo(bench: Bench) -> None:
    """A parent, two children and a grandchild, from a plain script: four nodes, three levels."""
    trip, sights, food, sushi = (str(uuid.uuid4()) for _ in range(4))
    for node, said in (
        (trip, "Plan four days in Tokyo"),
        (f"{trip}:{sights}", "Which sights are worth a day?"),
        (f"{trip}:{food}", "What should one eat?"),
        (f"{trip}:{food}:{sushi}", "Where is good sushi for a small budget?"),
    ):
        bench.ask(node, said)
    tree = bench.tree()

    names = {trip: "trip", sights: "sights", food: "food", sushi: "sushi"}
    assert short(drawn(tree), names) == ["trip", ".trip:sights", ".trip:food", "..trip:food:sushi"]
    assert (tree.node_count, tree.span_count, tree.max_depth) == (4, 4, 3)


def test_T5_virtual_parents(bench: Bench) -> None:
    """An agent whose own id is never sent is drawn all the same, counts for nothing, and adds up its steps."""
    for step in ("plan", "search", "answer"):
        bench.ask(f"agent-7:{step}")
    tree = bench.tree()
    agent = tree.nodes[0]

    assert drawn(tree) == ["(agent-7)", ".agent-7:plan", ".agent-7:search", ".agent-7:answer"]
    assert (tree.node_count, tree.virtual_count, tree.max_depth) == (3, 1, 2)
    assert agent.total_cost_usd == tree.total_cost_usd == sum(node.cost_usd or 0 for node in tree.nodes[1:])
    assert "no request" in bench.page(f"/traces/{tree.trace_id}")

    bench.ask("agent-7")
    assert drawn(bench.tree())[0] == "agent-7" and bench.tree().virtual_count == 0


def test_T6_two_segments_below_a_child(bench: Bench) -> None:
    """``child:grand`` hangs below ``parent:child``, also where it was sent before it."""
    for node in ("top", "top:child", "child:grand", "grand:leaf"):
        bench.ask(node)
    assert drawn(bench.tree()) == ["top", ".top:child", "..child:grand", "...grand:leaf"]


def test_T6_the_short_id_first(bench: Bench) -> None:
    """Its parent may come later than it."""
    for node in ("late:grand", "base:late", "base"):
        bench.ask(node)
    assert drawn(bench.tree()) == ["base", ".base:late", "..late:grand"]


def test_T6_ambiguity_is_said(bench: Bench) -> None:
    """Of two nodes of one trace that may be meant the first is taken, and the page says so."""
    with trace("both"):
        for node in ("a:x", "b:x", "x:y"):
            bench.ask(node)
    tree = bench.tree()
    told = next(node for node in tree.nodes if node.node_id == "x:y")

    assert drawn(tree) == ["both", ".(a)", "..a:x", "...x:y", ".(b)", "..b:x"]
    assert told.note is not None and told.note in bench.page(f"/traces/{tree.trace_id}?node={told.id}")


def test_T6_a_name_that_many_traces_have(bench: Bench) -> None:
    """A step called the same in two runs joins neither to the other, and what hangs below it is not lost."""
    for node in ("run-1:search", "run-2:search", "search:page"):
        bench.ask(node)
    assert [row.node_count for row in bench.traces()] == [1, 1, 1]


@pytest.mark.parametrize("order", list(itertools.permutations(["r", "r:a", "r:a:b", "r:c"]))[::5])
def test_T7_any_order(bench: Bench, order: tuple[str, ...]) -> None:
    """Children before their parents: the same nodes hang below the same."""
    for node in order:
        bench.ask(node)
    tree = bench.tree()
    parents = {node.node_id: next((up.node_id for up in tree.nodes if up.id == node.parent_id), None)
               for node in tree.nodes}  # fmt: skip
    assert parents == {"r": None, "r:a": "r", "r:a:b": "r:a", "r:c": "r"}


def test_T7_threads_and_gather(bench: Bench) -> None:
    """Calls of threads without any context, and of gathered tasks, are one tree."""
    bench.ask("job")
    threads = [threading.Thread(target=bench.ask, args=(f"job:t{n}",)) for n in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    async def gather() -> None:
        async with bench.async_client() as client:
            await asyncio.gather(*(
                client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}],
                                               extra_headers={"Helicone-Node-Id": f"job:t1:g{n}"})
                for n in range(4)
            ))  # fmt: skip

    asyncio.run(gather())
    tree = bench.tree()

    assert sorted(drawn(tree)) == sorted(
        ["job", *(f".job:t{n}" for n in range(4)), *(f"..job:t1:g{n}" for n in range(4))]
    )
    assert tree.node_count == 9


def test_T7_a_thread_of_a_request_that_forgot_propagate(bench: Bench) -> None:
    """Its Node-Id brings it to the trace of the request all the same."""

    async def app(scope: object, receive: object, send: object) -> None:
        bench.ask("work")
        for task in (lambda: bench.ask("work:lost"), propagate(lambda: bench.ask("work:kept"))):
            thread = threading.Thread(target=task)
            thread.start()
            thread.join()
        await reply(send)  # type: ignore[arg-type]

    TestClient(bench.app(app)).get("/work")
    assert drawn(bench.tree()) == ["GET /work", ".work", "..work:lost", "..work:kept"]


WORKER = """
import sys
from openai import OpenAI
from asgi_llmobs import LLMObs
from asgi_llmobs.testing import FakeProvider

url, store, *names = sys.argv[1:]
obs = LLMObs(store, providers=FakeProvider().providers)
client = OpenAI(base_url=f"{url}/v1", api_key="sk-test")
for name in names:
    client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}], extra_headers={"Helicone-Node-Id": name}
    )
assert obs.flush(50)
obs.close()
"""


@pytest.mark.slow
def test_T7_several_workers(bench: Bench, tmp_path: Path) -> None:
    """Processes that know nothing of each other write one tree."""
    store = f"sqlite:///{tmp_path / 'llmobs.db'}"
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, bench.url, store, *names], cwd=Path(__file__).parents[2])
        for names in (["flow:a", "flow:a:x"], ["flow", "flow:b"])
    ]
    assert [worker.wait(50) for worker in workers] == [0, 0]
    database = Database(store)
    (row,) = list_traces(database, Filter()).rows
    tree = get_trace(database, row.trace_id, project="default")
    database.dispose()

    assert tree is not None
    assert {(node.node_id, node.depth) for node in tree.nodes} == {
        ("flow", 1),
        ("flow:a", 2),
        ("flow:a:x", 3),
        ("flow:b", 2),
    }


def test_T8_an_agent_that_reasons_and_acts(bench: Bench) -> None:
    """The steps of a ReAct agent are what its nodes are called, and can be filtered by."""
    agent = f"agent_{uuid.uuid4()}"
    for number, step in enumerate(("Thought", "Action", "Observation", "Thought")):
        bench.ask(f"{agent}:{number}", step, **{"Helicone-Property-Step": step})
    tree = bench.tree()

    assert [node.label for node in tree.nodes[1:]] == ["Thought", "Action", "Observation", "Thought"]
    assert "Observation" in bench.page(f"/traces/{tree.trace_id}")
    assert len(bench.twin("/requests")["rows"]) == 4
    rows = bench.visitor.get("/requests.json?property=step%3DThought").json["rows"]
    assert [list(row["properties"].values())[0] for row in rows] == ["Thought", "Thought"]


def test_T9_retrieval_with_embeddings(bench: Bench) -> None:
    """The embedding of a RAG pipeline is a node of its kind with model, count and tokens; its vectors are not kept."""
    rag = f"rag-{uuid.uuid4()}"
    texts = ["mild winters", "rainy springs"]
    bench.client.embeddings.create(
        model="text-embedding-3-small", input=texts, dimensions=64, extra_headers={"Helicone-Node-Id": f"{rag}:embed"}
    )
    bench.ask(f"{rag}:answer", "What is the weather like?")
    tree = bench.tree()
    virtual, embedding, answer = tree.nodes
    shown = bench.twin(f"/requests/{embedding.id}")["request"]

    assert (virtual.virtual, embedding.kind, embedding.operation, answer.kind) == (
        True,
        "embedding",
        "embeddings",
        "llm",
    )
    assert (shown["request_model"], shown["details"]["dimensions"], shown["details"]["input_count"]) == (
        "text-embedding-3-small", 64, 2
    )  # fmt: skip
    assert embedding.input_tokens and embedding.cost_usd and embedding.cost_usd > 0
    assert "[base64 vector]" in bench.page(f"/requests/{embedding.id}")


def test_T10_parallel_with_the_async_client(bench: Bench) -> None:
    """Three calls at once are three bars above each other below one parent, and what that saved is said."""
    bench.fake.delay = 0.15
    parent = str(uuid.uuid4())

    async def analyse() -> None:
        async with bench.async_client() as client:
            await asyncio.gather(*(
                client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": aspect}],
                    extra_headers={"Helicone-Node-Id": f"{parent}:{aspect}"},
                )
                for aspect in ("tone", "topic", "names")
            ))  # fmt: skip

    asyncio.run(analyse())
    tree = bench.tree()
    bars = [(node.offset_ns, node.offset_ns + (node.duration_ns or 0)) for node in tree.nodes[1:]]

    assert len(bars) == 3 and tree.nodes[0].virtual
    assert max(start for start, _ in bars) < min(end for _, end in bars)
    assert tree.parallel_saving_ns > 150_000_000


def test_T22_node_and_session_together(bench: Bench) -> None:
    """A call with both is in its trace and in its session."""
    session = {"Helicone-Session-Id": "s-1", "Helicone-Session-Path": "/plan/flights"}
    bench.ask("trip", **session)
    bench.ask("trip:flights", **session)
    tree = bench.tree()
    twin = bench.visitor.get("/sessions/s-1.json?view=paths").json

    assert drawn(tree) == ["trip", ".trip:flights"] and tree.session_id == "s-1"
    assert twin["session"]["request_count"] == 2
    assert [path["path"] for path in twin["paths"]] == ["/", "/plan", "/plan/flights"]


def test_N19_the_same_id_in_two_sessions(bench: Bench) -> None:
    """An id that every session uses again makes one trace for each, not one for all."""
    for session in ("s-1", "s-2"):
        bench.ask("planner", **{"Helicone-Session-Id": session})
        bench.ask("planner:tool", **{"Helicone-Session-Id": session})
    assert [(row.session_id, row.node_count) for row in bench.traces()] == [("s-1", 2), ("s-2", 2)]


def test_N19_what_is_remembered_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids that nobody uses any more are forgotten."""
    monkeypatch.setattr("asgi_llmobs.capture.nodes.MAX_KNOWN", 5)
    for number in range(8):
        bench.ask(f"unique-{number}")
    assert len(nodes._known) == 5
