"""Redaction against its own patterns, applied without any of its short cuts."""

import json
import random

import pytest

from asgi_llmobs.bodies import slim
from asgi_llmobs.redaction import (
    BEARER,
    CREDENTIALS,
    MARK_BYTES,
    SECRET_MEMBER,
    long_words,
    safe_headers,
    without_credentials,
)

WORDS = "the model, reads a long-ish prompt: state-of-the-art_and then \"answers\" {keys} / tokens; Bearer".split(" ")
SECRETS = (
    "sk-" + "a1B2" * 4, "sk-proj-" + "x_Y-" * 9, "AIza" + "Q" * 30, "AKIA" + "Z9" * 8, "gsk_" + "c" * 20,
    "xai-" + "d" * 20, "hf_" + "e" * 20, "ghs_" + "f" * 30, "github_pat_" + "g_" * 15, "xoxb-1234567890",
    "eyJ" + "h" * 16 + ".eyJ" + "i" * 16 + "." + "j" * 8, "Bearer abc.def~ghi/j", "xoxb-123456789", "sk-short",
    '"api_key": "x"', '"API-KEY" : "a\\"b"', '"aws_secret_access_key_id":"v"', '"authToken":"t"', '"tokens": "no"',
    '"Proxy-Authorization":\n"basic"', '"private_key":"-----"', '"apiKey":5',
)  # fmt: skip


def plainly(content: bytes) -> bytes:
    for _, pattern in CREDENTIALS:
        content = pattern.sub(MARK_BYTES, content)
    return SECRET_MEMBER.sub(rb'\1"' + MARK_BYTES + b'"', BEARER.sub(MARK_BYTES, content))


@pytest.mark.parametrize("size", [1, 12, 3_000])
def test_short_cuts_change_nothing(size: int) -> None:
    """Whatever stands around a credential, the result is that of all patterns in turn."""
    chance = random.Random(size)
    for _ in range(300 if size < 1_000 else 20):
        words = [chance.choice(WORDS) for _ in range(size)]
        for _ in range(chance.randrange(4)):
            words[chance.randrange(size)] = chance.choice(SECRETS)
        content = chance.choice(" ,\n\"/").join(words).encode()
        assert without_credentials(content) == plainly(content)


@pytest.mark.parametrize("secret", SECRETS)
def test_each_alone(secret: str) -> None:
    """Each credential is found in a short text, in a long one, and at either end."""
    for text in (secret, f"{{{secret}}}", "word, " * 2_000 + secret, secret + " word," * 2_000):
        assert without_credentials(text.encode()) == plainly(text.encode())


def test_prose_has_no_long_words() -> None:
    """Prose is passed over without looking for a single credential."""
    assert long_words(("the model reads a long prompt and then answers, " * 400).encode()) == b""


@pytest.mark.parametrize("before", [0, 1, 5_000, 8_191, 8_192, 70_001])
@pytest.mark.parametrize("size", [16_383, 16_384, 40_000])
def test_base64_is_found_wherever_it_starts(before: int, size: int) -> None:
    """A run of 16 KB goes, a shorter one stays."""
    content = json.dumps({"text": " " * before, "data": "QUJD" * 20_000}).encode()
    content = content.replace(b"QUJD" * 20_000, (b"QUJD" * 20_000)[:size]) + b" " * 70_000
    out, changed = slim(content)
    assert changed == (size >= 16_384)
    assert (b"QUJDQUJD" in out) != changed


def test_headers_of_any_case() -> None:
    """Names are matched whatever their case; of a request only the known ones stay."""
    headers = [(b"Authorization", b"Bearer abcdefghijklmnop"), (b"Content-Type", b"application/json"), (b"X-Own", b"1")]
    assert safe_headers(headers, response=False) == (("content-type", "application/json"),)
    assert safe_headers(headers, response=True) == (("content-type", "application/json"), ("x-own", "1"))
