"""A trace on the command line: its figures and its tree as text, in the words and numbers of its page."""

from collections.abc import Iterator

from asgi_llmobs.admin.api import as_json
from asgi_llmobs.admin.formats import duration, money, number, ratio, short
from asgi_llmobs.queries.traces import TraceNode, TraceTree

__all__ = ["as_lines", "figures", "in_json"]

NAME = 48  # characters of a node's name and what leads to it
DEEPEST = 20  # levels that are drawn as such


def figures(tree: TraceTree) -> dict[str, str]:
    """What the trace adds up to, by the words of the page."""
    unpriced = f" + {tree.unpriced_count:,} unpriced" if tree.unpriced_count and tree.total_cost_usd is not None else ""
    virtual = f", {tree.virtual_count:,} virtual" if tree.virtual_count else ""
    return {
        "Total cost": f"{money(tree.total_cost_usd)}{unpriced}" if tree.node_count else "–",
        "Total duration": duration(tree.duration_ns),
        "Node count": f"{number(tree.node_count)} of {number(tree.span_count)} spans{virtual}",
        "Max depth": number(tree.max_depth),
        "Success rate": ratio(tree.success_rate),
        "Parallel saving": duration(tree.parallel_saving_ns),
        "Waiting for retries": duration(tree.retry_wait_ns),
    }


def as_lines(tree: TraceTree, limit: int) -> Iterator[str]:
    """The figures, then a line a node; ``*`` stands on the critical path.

    Args:
        tree: The trace.
        limit: Nodes that are shown at most.
    """
    yield f"{printable(tree.name, NAME)}  {tree.trace_id}  {tree.outcome}"
    for label, value in figures(tree).items():
        yield f"  {label:<20} {value}"
    yield ""
    for node in tree.nodes[:limit]:
        yield line(node)
    if len(tree.nodes) > limit:
        yield f"  {len(tree.nodes) - limit:,} more: --limit"


def line(node: TraceNode) -> str:
    deep = min(node.depth - 1, DEEPEST)
    name = "  " * deep + printable(node.label, max(8, NAME - 2 * deep))
    cost = money(node.total_cost_usd) if node.is_request or node.total_cost_usd is not None else ""
    said = [node.kind if not node.virtual else "no request", "" if node.outcome == "ok" else node.outcome]
    said += ["orphan" if node.orphan else "", printable(node.note or "", 120)]
    own = f"{duration(node.duration_ns):>10} {duration(node.self_ns):>10} {cost:>12}"
    return f"{'*' if node.critical else ' '} {name:<{NAME}} {own}  {' '.join(word for word in said if word)}"


def printable(text: str, limit: int) -> str:
    """*text* in one line, without what a terminal would take for an order."""
    return "".join(sign if sign.isprintable() else "·" for sign in short(text, limit))


def in_json(tree: TraceTree) -> str:
    """The trace and its nodes in the form of the page's JSON twin."""
    trace = {name: getattr(tree, name) for name in tree.__slots__ if name != "nodes"}
    return as_json({"trace": trace, "nodes": tree.nodes}).decode()
