"""Compressed contents: what comes back, how small they are, and what must never change."""

import hashlib
import json

import pytest

from asgi_llmobs.store.dictionary import dictionary_1
from asgi_llmobs.store.values import pack, pack_beside, unpack, unpack_beside, zstd

CONTENTS = (
    b"", b"x", b"{}", b"short", b"LLM1", b"LLMb" + b"x" * 300, b"LLM1" + b"y" * 300, b"\x28\xb5\x2f\xfd",
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


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("known", [b"", b"short", b"Z\xc3\xbcrich", ANSWER, b"a" * 200_000 + ANSWER])
def test_comes_back_beside(content: bytes, known: bytes) -> None:
    """The same with the help of what is known already."""
    assert unpack_beside(pack_beside(content, known), known) == content


def test_the_dictionary_never_changes() -> None:
    """Stored rows need it as it is: another one gets another number."""
    whole = dictionary_1()
    digest = hashlib.sha256(whole).hexdigest()
    assert digest == "bada41d0615e2895b69e786b51883fb03b8ae4b6a25ed506668164dff465d903"


def test_frames_without_dictionary_are_read() -> None:
    """A plain frame of zstd is unpacked too."""
    assert unpack(zstd.compress(ANSWER)) == ANSWER


def test_small() -> None:
    """A short answer shrinks to half, a text that is known to nearly nothing."""
    assert len(pack(ANSWER)) < len(ANSWER) * 0.5
    assert len(pack_beside(ANSWER[40:240], ANSWER)) < 40
