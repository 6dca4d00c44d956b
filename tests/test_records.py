"""Records as values: what is equal, what is hashed, and how they read."""

from dataclasses import replace

from asgi_llmobs.records import Body, Request, Span, Usage


def test_equal_by_value():
    """Two records of one kind with the same values are one key; with another value, or of another kind, two."""
    one, other = Usage(input_tokens=1, output_tokens=2), Usage(input_tokens=1, output_tokens=2)
    span = {"id": "1" * 16, "trace_id": "2" * 32, "project": "p", "name": "n", "start_ns": 1}

    assert one == other and hash(one) == hash(other) and len({one, other}) == 1
    assert one != replace(one, output_tokens=3) and one != (1, 2)
    assert Span(**span) == Span(**span) != Request(**span)


def test_how_they_read():
    """Each field by its name."""
    assert repr(Body(content=b"x", size=1)).startswith("Body(content=b'x', ")
