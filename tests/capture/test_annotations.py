"""What the app says in headers: both spellings, any case, and garbage that is passed over."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_llmobs.capture.annotations import NONE, is_ours, read, valid_trace_id


@pytest.mark.parametrize("prefix", ["LLMObs-", "llmobs-", "Helicone-", "HELICONE-"])
def test_every_header(prefix):
    """The two prefixes mean the same."""
    names = {
        "Session-Id": "session_id",
        "Session-Path": "session_path",
        "Session-Name": "session_name",
        "User-Id": "user_id",
        "Request-Id": "request_id",
        "Node-Id": "node_id",
        "Prompt-Id": "prompt_id",
        "Model-Override": "model_override",
    }
    said = read([((prefix + name).encode(), f" {field} ".encode()) for name, field in names.items()])

    assert {field: getattr(said, field) for field in names.values()} == {field: field for field in names.values()}


@pytest.mark.parametrize(
    ("value", "omitted"), [(b"true", True), (b"TRUE", True), (b"1", False), (b"", False), (b"yes", False)]
)
def test_omitting(value, omitted):
    """Only ``true`` means it."""
    said = read([(b"LLMObs-Omit-Request", value), (b"helicone-omit-response", value)])

    assert (said.omit_request, said.omit_response) == (omitted, omitted)


def test_ours_wins():
    """Where both are there, whatever the order; also for properties, whose names keep the case they came in."""
    headers = [
        (b"Helicone-User-Id", b"theirs"),
        (b"LLMObs-User-Id", b"ours"),
        (b"LLMObs-Session-Id", b"ours"),
        (b"helicone-session-id", b"theirs"),
        (b"Helicone-Property-Tenant", b"theirs"),
        (b"llmobs-property-TENANT", b"ours"),
        (b"helicone-property-tenant", b"theirs"),
        (b"Helicone-Property-Other", b"x"),
        (b"Helicone-Property-", b"no name"),
    ]
    said = read(headers)

    assert (said.user_id, said.session_id) == ("ours", "ours")
    assert said.properties == {"TENANT": "ours", "Other": "x"}


def test_values_in_any_encoding_and_of_any_length():
    """UTF-8 where it is, Latin-1 where not, bounded; empty is absent."""
    said = read(
        [(b"llmobs-user-id", "Zoë".encode()), (b"llmobs-node-id", b"\xe9"), (b"llmobs-session-id", b"x" * 9_999)]
    )

    assert (said.user_id, said.node_id, len(said.session_id)) == ("Zoë", "é", 4_096)
    assert read([(b"llmobs-user-id", b" ")]).user_id is None


def test_nothing_is_nothing():
    """Other headers are not ours."""
    assert read([(b"authorization", b"x"), (b"x-llmobs-user-id", b"y"), (b"llmobsx", b"z")]) is NONE
    assert not is_ours(b"llmob") and is_ours(b"LlmObs-anything")


@given(st.lists(st.tuples(st.binary(max_size=30).map(lambda name: b"llmobs-" + name), st.binary(max_size=30))))
def test_any_headers(headers):
    """Never an exception."""
    read(headers)


@pytest.mark.parametrize(
    ("traceparent", "valid"),
    [
        ("00-" + "a" * 32 + "-" + "b" * 16 + "-01", True),
        ("cc-" + "a" * 32 + "-" + "b" * 16 + "-01-more", True),
        ("00-" + "a" * 32 + "-" + "b" * 16 + "-01-more", False),
        ("00-" + "A" * 32 + "-" + "b" * 16 + "-01", False),
        ("00-" + "0" * 32 + "-" + "b" * 16 + "-01", False),
        ("ff-" + "a" * 32 + "-" + "b" * 16 + "-01", False),
        ("", False),
    ],
)
def test_traceparent(traceparent, valid):
    """As the W3C has it."""
    assert (valid_trace_id(traceparent) == ("a" * 32, "b" * 16)) is valid
