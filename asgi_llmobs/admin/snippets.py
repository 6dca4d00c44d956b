"""A request as something to paste: curl for the shell, httpx for Python, with placeholders where the keys were."""

import json
import pprint
import shlex
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from asgi_llmobs.records import Request

__all__ = ["curl", "python"]

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
KEPT_HEADERS = ("anthropic-version", "anthropic-beta", "openai-beta", "accept")
KEYLESS = ("ollama",)
SECRET_PARAMETERS = ("key", "api_key", "api-key", "apikey", "token", "access_token", "sig", "signature")


def curl(request: Request) -> str:
    """The call as one curl command."""
    lines = [f"curl -sS -X {shlex.quote(method_of(request))} {shlex.quote(address_of(request))}"]
    lines += [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in headers_of(request)]
    if "bedrock" in request.provider:
        lines.append('--aws-sigv4 "aws:amz:$AWS_REGION:bedrock" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY"')
    elif key := key_of(request):
        name, prefix, variable = key
        lines.append(f'-H "{name}: {prefix}${variable}"')
    body, remark = body_of(request)
    if body is not None:
        lines.append("--data-raw " + shlex.quote(body if isinstance(body, str) else json.dumps(body)))
    return "".join(f"# {line}\n" for line in remark) + " \\\n  ".join(lines)


def python(request: Request) -> str:
    """The call as a Python program over httpx."""
    headers = [f"        {name!r}: {value!r}," for name, value in headers_of(request)]
    key = None if "bedrock" in request.provider else key_of(request)
    if key:
        name, prefix, variable = key
        value = f"os.environ[{variable!r}]"
        headers.append(f"        {name!r}: {f'{prefix!r} + ' if prefix else ''}{value},")
    body, remark = body_of(request)
    lines = [f"# {line}" for line in remark]
    if "bedrock" in request.provider:
        lines.append("# Amazon signs each call: sign this one with botocore before sending it")
    lines += ["import os", "", "import httpx", "", "response = httpx.request("]
    lines += [f"    {method_of(request)!r},", f"    {address_of(request)!r},"]
    lines += ["    headers={", *headers, "    },"] if headers else []
    if body is not None:
        name = "content" if isinstance(body, str) else "json"
        text = pprint.pformat(body, width=100, sort_dicts=False).replace("\n", "\n    ")
        lines.append(f"    {name}={text},")
    lines += ["    timeout=600,", ")", "print(response.status_code, response.text)"]
    return "\n".join(lines)


def method_of(request: Request) -> str:
    return request.method or "POST"


def address_of(request: Request) -> str:
    """The address without parameters that carry a key."""
    parts = urlsplit(request.url or "https://unknown.invalid/")
    query = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if name.lower() not in SECRET_PARAMETERS
    ]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, urlencode(query), ""))


def headers_of(request: Request) -> list[tuple[str, str]]:
    sent = {name.lower(): value for name, value in request.request_headers}
    found = [(name, sent[name]) for name in KEPT_HEADERS if name in sent and name != "accept"]
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
    name = "".join(letter if letter.isalnum() else "_" for letter in request.provider.upper())
    return KEYS.get(family, ("authorization", "Bearer ", f"{name}_API_KEY"))


def body_of(request: Request) -> tuple[Any, list[str]]:
    """The body as JSON or text, and what is to be said about it."""
    body = request.request_body
    if body is None:
        return None, ["the request body is not stored"]
    remark = []
    if body.truncated or body.slimmed:
        remark.append("the body was shortened when it was stored")
    try:
        text = body.content.decode()
    except UnicodeDecodeError:
        return None, ["the body is not text: download it from the page"]
    try:
        return json.loads(text), remark
    except (ValueError, RecursionError):
        return text, remark
