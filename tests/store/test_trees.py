"""What a tree of one span adds up to is told without making it."""

from itertools import product

import pytest

from asgi_llmobs.store.trees import Fact, arrange, totals, totals_of


@pytest.mark.parametrize("node_id", [None, "a", "a:b:c"])
def test_alone(node_id: str | None) -> None:
    """A single span counts as the tree of it would, whatever it is."""
    for request, outcome, duration, cost, tokens, parent in product(
        (0, 1), ("ok", "error", "running"), (None, 0, 5), (None, 0, 7), (None, 3), (None, "lost", "x")
    ):
        fact = Fact(1, "x", parent, node_id, request, "llm", 10, duration, outcome, cost, tokens, tokens)
        long, short = totals(arrange([fact])), totals_of([fact])

        assert short._replace(root=None) == long._replace(root=None)
        assert short.root is not None and short.root.fact is fact


def test_none() -> None:
    """No span at all adds up to nothing."""
    assert totals_of([]) == totals([])
