"""Compressed contents: what comes back, how small they are, and what must never change."""

import hashlib
import json
from dataclasses import replace

import pytest

from asgi_llmobs.records import Body
from asgi_llmobs.store.contents import NOTHING, Words, packed_content, unpacked_content
from asgi_llmobs.store.dictionary import dictionary_1
from asgi_llmobs.store.values import pack, unpack, zstd

CONTENTS = (
    b"", b"x", b"{}", b"short", b"LLM1", b"LLM1" + b"y" * 300, b"\x28\xb5\x2f\xfd",
    zstd.compress(b"a frame of somebody else" * 40), bytes(range(256)) * 3, "Zürich ☃ ".encode() * 5_000,
)  # fmt: skip
ANSWER = json.dumps({"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o", "choices": [
    {"index": 0, "message": {"role": "assistant", "content": "Paris.", "refusal": None}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}}).encode()  # fmt: skip


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("level", [1, 3])
def test_comes_back(content: bytes, level: int) -> None:
    """Whatever is packed is unpacked to the same, also what looks packed already."""
    assert unpack(pack(content, level)) == content


def test_content_comes_back() -> None:
    """Details, bodies with what is known of them, and words; a body that is stored in whole has its hash."""
    bodies = {
        "request": Body(content=ANSWER, media_type="application/json", size=len(ANSWER)),
        "response": Body(content=b"\0\xff", size=9, sha256="0" * 64, truncated=True, slimmed=True),
    }
    words = Words("Zürich ☃", "")
    detail, found, told = unpacked_content(packed_content({"a": [1, None, "b"]}, bodies, words))

    assert (detail, told) == ({"a": [1, None, "b"]}, words)
    assert found["response"] == bodies["response"]
    assert found["request"] == replace(bodies["request"], sha256=hashlib.sha256(ANSWER).hexdigest())


def test_content_of_nothing() -> None:
    """A span may have neither bodies nor words."""
    assert unpacked_content(packed_content({}, {}, None)) == NOTHING


def test_the_dictionary_never_changes() -> None:
    """Stored rows need it as it is: another one gets another number."""
    whole = dictionary_1()
    digest = hashlib.sha256(whole).hexdigest()
    assert digest == "bada41d0615e2895b69e786b51883fb03b8ae4b6a25ed506668164dff465d903"


def test_frames_without_dictionary_are_read() -> None:
    """A plain frame of zstd is unpacked too."""
    assert unpack(zstd.compress(ANSWER)) == ANSWER


def test_small() -> None:
    """A short answer shrinks to half, and the words that stand in it take next to nothing."""
    body = {"response": Body(content=ANSWER, size=len(ANSWER))}
    words = Words("", ANSWER[40:240].decode())

    assert len(pack(ANSWER)) < len(ANSWER) * 0.5
    assert len(packed_content({}, body, words)) < len(packed_content({}, body, None)) + 30
