"""Copies of a request: run, they send exactly what was sent, and no secret is in any of them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asgi_llmobs.admin.snippets import curl, pytest_fixture, python, sdk
from asgi_llmobs.admin.transcript import json_text, markdown
from asgi_llmobs.queries.requests import request_with
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from asgi_llmobs.testing import FakeProvider
from tests.making import body, request

BODY = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "It's \"quoted\" \\ $HOME `x` 'y'\n\u00e9\u2028 \U0001f600 <b>"}],
    "temperature": 0.1,
    "logit_bias": {"50256": -100},
    "unknown_option": [None, True, 1.5],
}
MESSAGES = {"model": "claude-haiku-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": "Hello, it's me"}]}


@pytest.fixture(scope="module")
def fake() -> Iterator[tuple[FakeProvider, str]]:
    """A provider, and where it is."""
    provider = FakeProvider()
    with provider.serve() as url:
        yield provider, url


def call(url: str, content: Any = BODY, **given: Any) -> Any:
    """The record of a call to *url*."""
    return request(url=f"{url}/v1/chat/completions", request_body=body(content), **given)


def run(source: str) -> None:
    """Run a program as a reader would."""
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=50,
        env={"OPENAI_API_KEY": "sk-test", "ANTHROPIC_API_KEY": "sk-test", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "content", [BODY, {**BODY, "stream": True}, {**BODY, "x": "\ud800"}], ids=["", "stream", "odd"]
)
def test_httpx(fake: tuple[FakeProvider, str], content: Any) -> None:
    """The program sends what was sent."""
    provider, url = fake
    provider.reset()
    text = json.dumps(content).encode()
    run(python(call(url, text)))

    assert [each.json for each in provider.log] == [content]


@pytest.mark.slow
@pytest.mark.sdk
@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_sdk(fake: tuple[FakeProvider, str], api: str) -> None:
    """The SDK sends what was sent, options that its method does not know included."""
    pytest.importorskip(api)
    provider, url = fake
    provider.reset()
    content: Any = BODY if api == "openai" else MESSAGES
    made = call(url, content)
    if api == "anthropic":
        made = request(url=f"{url}/v1/messages", api="anthropic.messages", provider=api, request_body=body(content))
    source = sdk(made)
    assert source is not None
    run(source)

    assert [each.json for each in provider.log] == [content]


def words_of(command: str) -> list[str]:
    """What a shell takes the arguments of curl for."""
    said = "curl() { printf '%s\\0' \"$@\"; }\n" + command
    done = subprocess.run(["bash", "-c", said], capture_output=True, timeout=50)
    return done.stdout.decode().split("\0")[:-1]


def test_curl() -> None:
    """A shell takes the command apart into exactly the body; an address that is none is no option."""
    words = words_of(curl(call("https://api.openai.com")))
    assert json.loads(words[words.index("--data-raw") + 1]) == BODY

    hostile = words_of(curl(request(url="-o /etc/passwd")))
    assert "-o /etc/passwd" not in hostile and "https://unknown.invalid/" in hostile


def test_curl_presses_no_keys() -> None:
    """What ends a paste, deletes characters or turns the reading direction is written out, and arrives as it was."""
    content = "\x1b[201~\x03\x15id\n\x7f\x7f \x9b200~ \u202e'\\ $(id) `id` !! é\t\u200d1"
    command = curl(call("https://api.openai.com", content.encode()))

    assert all(line.isprintable() for line in command.split("\n"))
    assert words_of(command)[-1] == content


@pytest.mark.slow
def test_pytest_fixture(tmp_path: Path) -> None:
    """The test passes as it stands, and fails where something else is asked."""
    source = pytest_fixture(call("https://api.openai.com"))
    assert source is not None
    other = source.replace("content=SENT", "content=b'x' + SENT")
    for name, text, passes in (("test_as_it_stands.py", source, True), ("test_other.py", other, False)):
        (tmp_path / name).write_text(text, "utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:llmobs", name]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50)
        assert (done.returncode == 0) is passes, done.stdout


def test_no_secret_in_any_form() -> None:
    """Keys in headers, address or user info are in no copy."""
    made = request(
        url="https://user:SECRET1@api.openai.com/v1/chat/completions?key=SECRET2&api-version=1",
        request_headers=(("authorization", "Bearer SECRET3"), ("x-api-key", "SECRET4"), ("content-type", "text/plain")),
        response_headers=(("set-cookie", "SECRET5"),),
    )
    for form in (curl, python, sdk, pytest_fixture, json_text, markdown):
        text = form(made)
        assert text and "SECRET" not in text, form


def test_markdown_is_whole() -> None:
    """Every message is in it, and nothing in one can end its block."""
    call_ = {"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"a": "```x"}'}}
    messages = [
        {"role": "user", "content": "What?"},
        {"role": "assistant", "content": None, "tool_calls": [call_]},
        {"role": "tool", "tool_call_id": "a", "content": "````\n# no heading"},
    ]
    made = request(messages=(), request_body=body({"model": "gpt-4o", "messages": messages}))
    database = Database("sqlite://")
    Sink(database).write([made])
    stored = request_with(database, made.id, project="default")
    database.dispose()
    assert stored is not None
    text = markdown(stored)

    assert "What?" in text and "Tool call `look`" in text and "`````\n````\n# no heading\n`````" in text
    assert json.loads(json_text(stored))["request"]["body"]["messages"] == messages


@pytest.mark.parametrize(
    ("content", "note"),
    [(b"\xff\xfe\x00binary", "not text"), (b"{not json", "content="), (b'{"a": 1, "a": 2}', "content="),
     (b'{"a": NaN}', "content="), (b"[1, 2]", "content=")],
)  # fmt: skip
def test_bodies_that_are_no_plain_json(content: bytes, note: str) -> None:
    """What Python values would not say exactly is sent as the text that it was, and no SDK is offered."""
    made = request(request_body=body(content))

    assert note in python(made)
    assert sdk(made) is None
