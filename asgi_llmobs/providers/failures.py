"""What an error body says, in whatever shape: type, code and message."""

import json
from typing import Any

from asgi_llmobs.providers.base import Wire
from asgi_llmobs.providers.framing import json_array_items, parse_json
from asgi_llmobs.providers.values import array, named, obj

__all__ = ["error_in", "error_of"]

MAX_MESSAGE = 2000  # characters of an error page that are kept
MESSAGE_KEYS = (
    "message",
    "Message",
    "msg",
    "error_message",
    "errorMessage",
    "detail",
    "error_description",
    "reason",
    "status_msg",
)
TYPE_KEYS = ("type", "__type", "error_type", "errorType", "status", "title")
CODE_KEYS = ("code", "error_code", "errorCode", "status_code", "statusCode")
MAX_NESTING = 8
MARKS = (b'"error', b'"success"', b'"base_resp"')  # without one of them no answer of status 200 is an error


def error_in(wire: Wire) -> dict[str, Any] | None:
    """The error that a whole answer reports by its status or in its body, ``None`` where it reports none."""
    failed = wire.status is not None and wire.status >= 400
    if not failed and all(wire.response_body.find(mark, 0, 65536) < 0 for mark in MARKS):
        return None
    value = parse_json(wire.response_body)
    if not failed:
        return reported(value) if isinstance(value, dict) else None
    error = error_of(value)
    if error is None:
        error = error_of(next((parse_json(item.data) for item in json_array_items(wire.response_body)), None))
    if error is None or error["message"] is None:
        text = wire.response_body.decode("utf-8", "replace").strip()[:MAX_MESSAGE]
        message = f"HTTP {wire.status}: {text}" if text else f"HTTP {wire.status}"
        error = {"type": None, "code": None, **(error or {}), "message": message}
    kind = wire.response_headers.get("x-amzn-errortype")
    if kind and not error["type"]:
        error["type"] = kind.partition(":")[0]
    return error


def reported(body: dict[str, Any]) -> dict[str, Any] | None:
    """The error that an answer of status 200 is all the same."""
    error, state = body.get("error"), obj(body.get("base_resp"))
    if state.get("status_code"):  # MiniMax
        return error_of(state)
    failed = body.get("success") is False or body.get("object") == "error"
    return error_of(body) if failed or (error and isinstance(error, dict | str)) else None


def error_of(value: Any, depth: int = 0) -> dict[str, Any] | None:
    """``{type, code, message}`` of a parsed error body or of the error object inside one; ``None`` where it is none."""
    if depth > MAX_NESTING or not value:
        return None
    if isinstance(value, str):
        return {"type": None, "code": None, "message": value[:MAX_MESSAGE]}
    if isinstance(value, list):
        return listed(value, depth)
    if not isinstance(value, dict):
        return None
    own = own_fields(value)
    inner = next((value[key] for key in ("error", "errors", "detail") if isinstance(value.get(key), dict | list)), None)
    found = error_of(inner, depth + 1)
    if isinstance(value.get("error"), str):  # {"error": "…", "code": "…"}, and {"error": "kind", "message": "…"}
        own["type" if own["message"] else "message"] = value["error"][:MAX_MESSAGE]
    if found is None:
        return own if any(item is not None for item in own.values()) else None
    if isinstance(value.get("error"), dict):
        return found if found["message"] else {**found, "message": own["message"]}
    return {name: own[name] if found[name] is None else found[name] for name in found}


def listed(value: list[Any], depth: int) -> dict[str, Any] | None:
    """The errors of a list as one: the first one's type and code, the messages of all."""
    errors = [error for error in (error_of(item, depth + 1) for item in value[:20]) if error is not None]
    if not errors:
        return None
    messages = [error["message"] for error in errors if error["message"]]
    return {**errors[0], "message": "; ".join(messages)[:MAX_MESSAGE] or None}


def own_fields(value: dict[str, Any]) -> dict[str, Any]:
    """Type, code and message that stand in the object itself."""
    code = next((value[key] for key in CODE_KEYS if isinstance(value.get(key), str | int) and value[key] != ""), None)
    message = next((named(value.get(key)) for key in MESSAGE_KEYS if named(value.get(key))), None)
    if message is None and isinstance(value.get("message"), dict | list) and value["message"]:
        inner = error_of(value["message"])
        message = inner["message"] if inner else json.dumps(value["message"], ensure_ascii=False)
    if message is None and array(obj(value.get("error")).get("details")):
        message = json.dumps(value["error"]["details"], ensure_ascii=False)
    kind = next((named(value.get(key)) for key in TYPE_KEYS if named(value.get(key))), None)
    if kind is not None and kind == value.get("__type"):  # AWS puts a namespace before the name
        kind = kind.rpartition("#")[2] or None
    return {
        "type": kind if kind != "error" else None,
        "code": code,
        "message": None if message is None else message[:MAX_MESSAGE],
    }
