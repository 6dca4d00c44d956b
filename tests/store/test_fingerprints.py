"""What tells that two requests asked the same, or began the same."""

from dataclasses import replace

from asgi_llmobs.records import Message, Part, Request
from asgi_llmobs.store.fingerprints import PREFIX, fingerprints
from tests.making import body, request


def asked(*texts: str, tools: tuple[dict[str, str], ...] = (), **given: object) -> Request:
    messages = tuple(Message(role="user", parts=(Part(type="text", content=text),)) for text in texts)
    made = request(request_body=body({"messages": texts, "tools": tools}), **given)
    return replace(made, messages=messages, tools=tools)


def test_the_same_call() -> None:
    """The same body to the same model; anything else is another prompt."""
    one, two = fingerprints(asked("a")), fingerprints(asked("a"))

    assert one == two and one.prompt is not None
    assert fingerprints(asked("b")).prompt != one.prompt
    assert fingerprints(asked("a", request_model="gpt-4o-mini")).prompt != one.prompt


def test_the_same_beginning() -> None:
    """The first 4,096 characters, tools before messages; a shorter prompt has no beginning that could be kept."""
    long = "x" * PREFIX
    tools = ({"name": "look_up"},)

    assert fingerprints(asked(long, "a")).prefix == fingerprints(asked(long, "b")).prefix is not None
    assert fingerprints(asked("y" + long)).prefix != fingerprints(asked(long)).prefix
    assert fingerprints(asked(long, tools=tools)).prefix != fingerprints(asked(long)).prefix
    assert fingerprints(asked("short")).prefix is None
    assert fingerprints(asked("a", tools=tools)).tools_size == len('[{"name":"look_up"}]')


def test_what_is_not_stored_has_none() -> None:
    """A body that was left out leaves no trace; one that was cut is known by the hash of the whole."""
    assert fingerprints(replace(asked("a"), request_body=None)) == (None, None, None)
    whole = asked("a")
    assert whole.request_body is not None
    cut = [
        fingerprints(replace(whole, request_body=replace(whole.request_body, truncated=True, sha256=sha256))).prompt
        for sha256 in ("a" * 64, "b" * 64, "a" * 64)
    ]
    assert cut[0] == cut[2] != cut[1]
