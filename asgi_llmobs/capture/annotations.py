"""What the app says about a call in headers: ``LLMObs-*``, and ``Helicone-*`` with the same meaning."""

from collections.abc import Iterable

from asgi_llmobs.records import Annotations

__all__ = ["Annotations", "is_ours", "read", "valid_trace_id"]

OURS = (b"llmobs-", b"helicone-")
MAX_VALUE = 4_096


def is_ours(name: bytes) -> bool:
    """Whether a header is one of those that never leave the process."""
    return name[:7].lower() == OURS[0] or name[:9].lower() == OURS[1]


NONE = Annotations()
TEXTS = {
    "session-id": "session_id",
    "session-path": "session_path",
    "session-name": "session_name",
    "user-id": "user_id",
    "request-id": "request_id",
    "node-id": "node_id",
    "prompt-id": "prompt_id",
    "model-override": "model_override",
    "project": "project",
}


def text(value: bytes) -> str:
    try:
        decoded = value.decode("utf-8")
    except UnicodeDecodeError:
        decoded = value.decode("latin-1")
    return decoded[:MAX_VALUE].strip()


def read(headers: Iterable[tuple[bytes, bytes]]) -> Annotations:
    """The annotations among *headers*; ``LLMObs-*`` wins over ``Helicone-*``. Anything else is passed over."""
    found: dict[str, str] = {}
    properties: dict[str, str] = {}
    ours: set[str] = set()
    for raw_name, raw_value in headers:
        if not is_ours(raw_name):
            continue
        native = raw_name[:7].lower() == OURS[0]
        name = text(raw_name[7 if native else 9 :])
        lower = name.lower()
        if lower.startswith("property-"):
            key = name[9:].strip()
            if key and (native or key.lower() not in ours):
                if native:
                    ours.add(key.lower())
                for other in [other for other in properties if other.lower() == key.lower()]:
                    del properties[other]
                properties[key] = text(raw_value)
        elif native or lower not in ours:
            if native:
                ours.add(lower)
            found[lower] = text(raw_value)
    if not found and not properties:
        return NONE
    values = {field_name: found[name] for name, field_name in TEXTS.items() if found.get(name)}
    return Annotations(
        **values,
        omit_request=found.get("omit-request", "").lower() == "true",
        omit_response=found.get("omit-response", "").lower() == "true",
        properties=properties,
    )


def valid_trace_id(traceparent: str) -> tuple[str, str] | None:
    """Trace id and parent id of a W3C ``traceparent``, ``None`` where it is not valid."""
    parts = traceparent.strip().split("-")
    if len(parts) < 4 or len(parts[0]) != 2 or parts[0] == "ff" or (parts[0] == "00" and len(parts) != 4):
        return None
    trace_id, parent_id = parts[1], parts[2]
    if len(trace_id) != 32 or len(parent_id) != 16 or not set(trace_id + parent_id) <= set("0123456789abcdef"):
        return None
    if not trace_id.strip("0") or not parent_id.strip("0"):
        return None
    return trace_id, parent_id
