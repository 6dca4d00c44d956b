"""A request as something to paste: curl, a program, a test. Placeholders stand where keys were, bodies are exact."""

import json
import pprint
import re
import shlex
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from asgi_llmobs.records import Body, Request

__all__ = ["address_of", "body_of", "curl", "pytest_fixture", "python", "sdk", "text_of"]

# header and the variable that holds the key, as each provider's own documentation names them
KEYS = {
    "anthropic": ("x-api-key", "", "ANTHROPIC_API_KEY"),
    "azure": ("api-key", "", "AZURE_OPENAI_API_KEY"),
    "cohere": ("authorization", "Bearer ", "CO_API_KEY"),
    "gemini": ("x-goog-api-key", "", "GEMINI_API_KEY"),
    "google": ("x-goog-api-key", "", "GEMINI_API_KEY"),
    "huggingface": ("authorization", "Bearer ", "HF_TOKEN"),
    "replicate": ("authorization", "Bearer ", "REPLICATE_API_TOKEN"),
}
KEPT_HEADERS = ("anthropic-version", "anthropic-beta", "openai-beta")
KEYLESS = ("ollama",)
SECRET_PARAMETERS = ("key", "api_key", "api-key", "apikey", "token", "access_token", "sig", "signature")
UNKNOWN = "https://unknown.invalid/"
READABLE = 32 * 1024  # bytes of a body that is written as Python values; a longer one is one long string
LONGEST = 512 * 1024  # bytes of an answer that a test may carry


class Method(NamedTuple):
    """The method of an official SDK for one wire format."""

    package: str
    client: str
    call: str
    end: str  # of the address, which the SDK adds by itself
    named: str  # arguments; anything else goes along as ``extra_body``, which the SDKs send as it is


SAMPLING = "temperature top_p stream"
METHODS = {
    "openai.chat": Method(
        "openai", "OpenAI", "chat.completions.create", "/chat/completions",
        f"model messages {SAMPLING} stream_options n stop seed tools tool_choice parallel_tool_calls response_format "
        "max_tokens max_completion_tokens reasoning_effort store metadata service_tier",
    ),
    "openai.completions": Method(
        "openai", "OpenAI", "completions.create", "/completions", f"model prompt {SAMPLING} max_tokens n stop seed"
    ),
    "openai.responses": Method(
        "openai", "OpenAI", "responses.create", "/responses",
        f"model input instructions {SAMPLING} max_output_tokens tools tool_choice parallel_tool_calls reasoning text "
        "previous_response_id store metadata service_tier",
    ),
    "openai.embeddings": Method(
        "openai", "OpenAI", "embeddings.create", "/embeddings", "model input dimensions encoding_format"
    ),
    "openai.moderations": Method("openai", "OpenAI", "moderations.create", "/moderations", "model input"),
    "anthropic.messages": Method(
        "anthropic", "Anthropic", "messages.create", "/v1/messages",
        f"model system messages max_tokens {SAMPLING} top_k stop_sequences tools tool_choice thinking metadata "
        "service_tier",
    ),
}  # fmt: skip


def curl(request: Request) -> str:
    """The call as one curl command."""
    lines = [f"curl -sS -g -X {word(method_of(request))} {word(address_of(request))}"]
    lines += [f"-H {word(f'{name}: {value}')}" for name, value in headers_of(request)]
    if "bedrock" in request.provider:
        lines.append('--aws-sigv4 "aws:amz:$AWS_REGION:bedrock" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY"')
    elif key := key_of(request):
        name, prefix, variable = key
        lines.append(f'-H "{name}: {prefix}${variable}"')
    text, remarks = body_of(request)
    if text is not None:
        lines.append("--data-raw " + word(text))
    return "".join(f"# {line}\n" for line in remarks) + " \\\n  ".join(lines)


def python(request: Request) -> str:
    """The call as a Python program over httpx."""
    headers = [f"        {name!r}: {value!r}," for name, value in headers_of(request)]
    key = None if "bedrock" in request.provider else key_of(request)
    if key:
        name, prefix, variable = key
        value = f"os.environ[{variable!r}]"
        headers.append(f"        {name!r}: {f'{prefix!r} + ' if prefix else ''}{value},")
    text, remarks = body_of(request)
    lines = [f"# {line}" for line in remarks]
    if "bedrock" in request.provider:
        lines.append("# Amazon signs each call: sign this one with botocore before sending it")
    lines += ["import os", "", "import httpx", "", "response = httpx.request("]
    lines += [f"    {method_of(request)!r},", f"    {address_of(request)!r},"]
    lines += ["    headers={", *headers, "    },"] if headers else []
    if text is not None:
        name, value = written(text)
        value = value.replace("\n", "\n    ") if name == "json" else value
        lines.append(f"    {name}={value},")
    lines += ["    timeout=600,", ")", "print(response.status_code, response.text)"]
    return "\n".join(lines) + "\n"


def sdk(request: Request) -> str | None:
    """The call through the provider's official SDK; ``None`` where there is none that we can write for."""
    text, remarks = body_of(request)
    method, address = METHODS.get(request.api), address_of(request).partition("?")[0]
    found = values_of(text or "")
    if found is None or method is None or "azure" in request.provider or not address.endswith(method.end):
        return None
    names = method.named.split()
    named = {name: value for name, value in found.items() if name in names}
    rest = {name: value for name, value in found.items() if name not in names}
    _, _, variable = key_of(request) or ("", "", "API_KEY")
    lines = [f"# {line}" for line in remarks]
    lines += ["import os", "", f"from {method.package} import {method.client}", ""]
    base = address.removesuffix(method.end)
    lines += [f"client = {method.client}(base_url={base!r}, api_key=os.environ[{variable!r}])"]
    lines.append(f"answer = client.{method.call}(")
    lines += [f"    {name}={indented(value)}," for name, value in named.items()]
    lines += [f"    extra_body={indented(rest)},"] if rest else []
    lines.append(")")
    lines += ["for event in answer:", "    print(event)"] if found.get("stream") is True else ["print(answer)"]
    return "\n".join(lines) + "\n"


def pytest_fixture(request: Request) -> str | None:
    """The exchange as a test of its own: a client that answers as the provider did, and checks what it is asked.

    ``None`` where the bodies are not stored in whole.
    """
    sent, _ = body_of(request)
    got = request.response_body
    if sent is None or got is None or request.status is None or shortened(request.request_body) or shortened(got):
        return None
    if len(got.content) > LONGEST:
        return None
    media_type = got.media_type or "application/json"
    return f'''"""A call as it was made, to be answered without the provider."""

import httpx
import pytest

URL = {address_of(request)!r}
SENT = {sent!r}
STATUS = {request.status}
ANSWER = {got.content!r}


@pytest.fixture
def client():
    """A client whose every call gets the recorded answer."""

    def answer(request):
        assert str(request.url) == URL
        assert request.content == SENT.encode()
        return httpx.Response(STATUS, headers={{"content-type": {media_type!r}}}, content=ANSWER)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        yield client


def test_recorded_call(client):
    response = client.request({method_of(request)!r}, URL, content=SENT.encode())

    assert response.status_code == STATUS
    assert response.content == ANSWER
'''


def word(text: str) -> str:
    """*text* as one word of a shell. What is not printed is written out: to a terminal it is keys that are pressed."""
    if all(line.isprintable() for line in text.split("\n")):
        return shlex.quote(text)
    return "$'" + "".join(map(keyed, text)) + "'"


def keyed(character: str) -> str:
    if character in "\\'":
        return "\\" + character
    if character.isprintable() or character == "\n":
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "replace"))


def method_of(request: Request) -> str:
    return request.method or "POST"


def address_of(request: Request) -> str:
    """The address without parameters that carry a key; what is no address could be an option of the command line."""
    parts = urlsplit(request.url or UNKNOWN)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return UNKNOWN
    query = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if name.lower() not in SECRET_PARAMETERS
    ]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, urlencode(query), ""))


def headers_of(request: Request) -> list[tuple[str, str]]:
    sent = {name.lower(): value for name, value in request.request_headers}
    found = [(name, sent[name]) for name in KEPT_HEADERS if name in sent]
    if request.provider == "anthropic" and "anthropic-version" not in sent:
        found.append(("anthropic-version", "2023-06-01"))
    if request.request_body is not None:
        media_type = (request.request_body.media_type or "application/json").partition(";")[0]
        found.insert(0, ("content-type", media_type))
    return found


def key_of(request: Request) -> tuple[str, str, str] | None:
    if request.provider in KEYLESS:
        return None
    family = request.provider.partition(".")[0].partition("-")[0].lower()
    name = re.sub(r"[^A-Z0-9]", "_", request.provider.upper())
    return KEYS.get(family, ("authorization", "Bearer ", f"{name}_API_KEY"))


def shortened(body: Body | None) -> bool:
    return body is not None and (body.truncated or body.slimmed)


def text_of(body: Body) -> str | None:
    """A body as the very text that it was; ``None`` where it is none."""
    try:
        text = body.content.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def body_of(request: Request) -> tuple[str | None, list[str]]:
    """The body as text, and what is to be said about it."""
    body = request.request_body
    if body is None:
        return None, ["the request body is not stored"]
    text = text_of(body)
    if text is None:
        return None, ["the body is not text: download it from the page"]
    return text, ["the body was shortened when it was stored"] if shortened(body) else []


def values_of(text: str) -> dict[str, Any] | None:
    """A JSON object as Python values, where these say all that the text says; ``None`` where they do not."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name twice")
        return found

    def refused(_: str) -> Any:
        raise ValueError("no number of JSON")

    try:
        found = json.loads(text, object_pairs_hook=once, parse_constant=refused)
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def written(text: str) -> tuple[str, str]:
    """The argument of httpx that sends *text*, and its value as Python."""
    found = values_of(text) if len(text) <= READABLE else None
    if found is None:
        return "content", f"{text!r}.encode()"
    return "json", literal(found)


def literal(value: Any) -> str:
    return pprint.pformat(value, width=100, sort_dicts=False)


def indented(value: Any) -> str:
    return (repr(value) if len(repr(value)) > READABLE else literal(value)).replace("\n", "\n    ")
