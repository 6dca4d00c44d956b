"""T25, P19, N3, N4: real frameworks, whole apps: each call is one request, in the framework's tree or in ours."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.frameworks.trees import PAGE, PAGE_TREES, Node, drawn, requests_in, roots_of

pytestmark = pytest.mark.timeout(180)

FRAMEWORKS = ("langchain", "llama_index", "pydantic_ai", "agents", "litellm", "instructor")
WAYS = ("captured", "documented", "everything")
Played = Callable[[str], dict[str, Any]]


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def one_trace(result: dict[str, Any]) -> list[Node]:
    (trace,) = result["traces"]
    nodes: list[Node] = trace["nodes"]
    return nodes


def calls(sent: list[str]) -> int:
    """How many requests an app has made: a 429 and what is sent after it is one."""
    return sum(1 for one in sent if ", 429, " not in one)


@pytest.mark.parametrize("way", WAYS)
def test_one_request_for_each_call(played: Played, framework: str, way: str) -> None:
    """N4: in one trace, whoever else tells of it; nothing is left out, nothing twice, and the totals say the same."""
    for name, result in played(framework)[way].items():
        nodes = one_trace(result)
        requests = [node for node in nodes if node["is_request"]]
        figures = result["traces"][0]["figures"]

        assert len(requests) == calls(result["sent"]), (name, drawn(nodes))
        assert figures["node_count"] == len(requests)
        assert figures["input_tokens"] == sum(node["input_tokens"] or 0 for node in requests)
        assert sum(node["attempts"] for node in requests) == len(result["sent"]), name


@pytest.mark.parametrize("way", WAYS)
def test_the_facts_are_those_of_the_wire(played: Played, framework: str, way: str) -> None:
    """Model, tokens, price and texts of each request are what was captured without any set-up."""
    captured = played(framework)["captured"]
    for name, result in played(framework)[way].items():
        facts = ("operation", "model", "input_tokens", "output_tokens", "cost_usd", "attempts", "output_preview")
        found, known = (
            sorted(str([node[fact] for fact in facts]) for node in one_trace(one) if node["is_request"])
            for one in (result, captured[name])
        )
        assert found == known, name
        ok = [node for node in one_trace(result) if node["is_request"] and node["outcome"] == "ok"]
        assert all(node["cost_usd"] is not None and node["input_tokens"] for node in ok), name


@pytest.mark.parametrize("way", WAYS)
def test_everything_inherits(played: Played, framework: str, way: str) -> None:
    """N3: session, user and properties of the request are on every node; none is an orphan, none outside its parent."""
    for name, result in played(framework)[way].items():
        nodes = one_trace(result)
        assert {(node["session_id"], node["user_id"], node["properties"].get("team")) for node in nodes} == {
            ("s-1", "ada", "travel")
        }, name
        assert not [node["name"] for node in nodes if node["orphan"]]
        assert [node["name"] for node in nodes if node["parent_id"] is None] == [f"GET /{name}"]


@pytest.mark.parametrize("way", WAYS)
def test_nothing_of_the_app_is_changed(played: Played, framework: str, way: str) -> None:
    """Results, and what the provider gets, are those of a bare run."""
    for name, result in played(framework)[way].items():
        bare = played(framework)["bare"][name]
        assert result["result"] == bare["result"], name
        assert sorted(result["sent"]) == sorted(bare["sent"]), name


def test_nothing_leaves_the_machine(played: Played, framework: str) -> None:
    """Neither before nor after the documented line; no global provider is set, and nothing of ours fails."""
    found = played(framework)

    assert found["captured_noted"]["outside"] == found["documented_noted"]["outside"] == []
    assert found["global_provider"] is False
    assert found["failures"] == {}


def test_contexts_are_left_as_they_were(played: Played, framework: str) -> None:
    """N3: nobody says "Failed to detach context" because of what we or the documented line do."""
    said = [*played(framework)["captured_noted"]["logged"], *played(framework)["documented_noted"]["logged"]]

    assert [line for line in said if "detach" in line or "llmobs" in line] == []


def test_in_a_script(played: Played, framework: str) -> None:
    """The same outside any app, inside a ``trace``."""
    for name, result in played(framework)["script"].items():
        spans, bare = result["spans"], played(framework)["bare"][name]
        assert result["result"] == bare["result"], name
        assert len(result["requests"]) == calls(result["sent"]), (name, spans)
        assert {(span["session_id"], span["user_id"], span["properties"].get("team")) for span in spans} == {
            ("s-2", "bob", "travel")
        }
        assert [span["name"] for span in roots_of(spans)] == ["job"], name


@pytest.mark.parametrize("module", PAGE_TREES)
def test_T25_the_trees_are_as_the_docs_draw_them(played: Played, module: str) -> None:
    """Chains, agents, tools, retrievers and calls are where the page says that they are."""
    for name, picture in PAGE_TREES[module].items():
        assert drawn(one_trace(played(module)["documented"][name])[1:]) == picture


@pytest.mark.parametrize("module", ["langchain", "pydantic_ai", "agents", "llama_index"])
def test_a_failing_tool(played: Played, module: str) -> None:
    """It is the node that failed, with what was said."""
    nodes = one_trace(played(module)["documented"]["failing_tool"])
    failed = [node for node in nodes if node["kind"] == "tool"]

    assert [node["outcome"] for node in failed] == ["error"]
    assert "no forecast for Porto" in failed[0]["error_message"]


@pytest.mark.parametrize("module", FRAMEWORKS)
def test_a_retry(played: Played, module: str) -> None:
    """N1: a refusal and what came after it are two attempts of one request."""
    (request,) = requests_in(one_trace(played(module)["documented"]["retry"]))

    assert (request["attempts"], request["outcome"]) == (2, "ok")


def test_the_page_names_every_framework() -> None:
    """Each has its picture, or says that it needs no set-up."""
    page = PAGE.read_text("utf-8")

    assert len(re.findall(r"^## ", page, re.M)) >= len(FRAMEWORKS)
