"""Trees as text, as docs/frameworks.md draws them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Node = dict[str, Any]
PAGE = Path(__file__).parents[2] / "docs" / "frameworks.md"


def drawn(nodes: Sequence[Node]) -> str:
    """Each node a line, below its parent: kind, name, and of a request its model."""
    first = min((node["depth"] for node in nodes), default=0)
    return "".join(f"{'  ' * (node['depth'] - first)}{line(node)}\n" for node in nodes)


def line(node: Node) -> str:
    model = re.sub(r"-\d{4}-\d\d-\d\d$", "", node["model"] or "")
    return f"{node['kind']:<10}{node['name']}" + (f"  ({model})" if node["is_request"] else "")


def requests_in(nodes: Sequence[Node]) -> list[Node]:
    return [node for node in nodes if node["is_request"]]


def roots_of(spans: Sequence[Node]) -> list[Node]:
    known = {span["id"] for span in spans}
    return [span for span in spans if span["parent_id"] not in known]


def pictures(heading: str) -> list[str]:
    """The trees that the page draws below a heading."""
    part = PAGE.read_text("utf-8").split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^```text\n(.*?)^```$", part, re.M | re.S)


SHOWN = {
    "langchain": ("LangChain and LangGraph", ("rag", "agent")),
    "llama_index": ("LlamaIndex", ("agent",)),
    "pydantic_ai": ("pydantic-ai", ("agent",)),
    "agents": ("OpenAI Agents SDK", ("rag",)),
}
PAGE_TREES = {module: dict(zip(names, pictures(heading), strict=True)) for module, (heading, names) in SHOWN.items()}
