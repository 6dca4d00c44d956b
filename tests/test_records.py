"""Records as values: what is equal, what is hashed, and how they read."""

from dataclasses import replace

import pytest

from asgi_llmobs.records import Annotations, Body, Request, Span, Usage


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


def test_how_they_are_made():
    """By name, with defaults of their own for each, and with an error that says which record lacks which field."""
    one, other = Annotations(node_id="a"), Annotations()

    assert (one.node_id, other.node_id, one.omit_request) == ("a", None, False)
    assert one.properties == {} and one.properties is not other.properties
    assert Annotations(properties={"k": "v"}).properties == {"k": "v"}
    for wrong, message in (({"id": "1"}, r"^Span\.__init__\(\) missing .*'trace_id'"), ({"no": 1}, r"^Span\..*'no'")):
        with pytest.raises(TypeError, match=message):
            Span(**wrong)
