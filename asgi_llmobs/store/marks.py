"""What is in a request, as bits of one integer, so that lists can be narrowed down to it."""

from asgi_llmobs.records import Request

__all__ = ["MARKS", "marks_of"]

# the order is that of the bits: new ones go to the end
MARKS = ("tools", "images", "audio", "files", "reasoning", "refusal", "server_tools", "warnings")
MODALITIES = {"image": "images", "audio": "audio", "file": "files", "video": "files", "document": "files"}


def marks_of(request: Request) -> int:
    """The bits of what is in *request*; of a body that is not stored there is nothing to be known."""
    found = {
        name
        for name, value in (
            ("tools", request.tools),
            ("reasoning", request.reasoning_text),
            ("refusal", request.refusal),
            ("server_tools", request.server_tools),
            ("warnings", request.warnings),
        )
        if value
    }
    for message in (*request.messages, *request.output_messages):
        for part in message.parts:
            if part.type not in ("text", "tool_call", "tool_call_response"):
                found.add(MODALITIES.get(part.modality or part.type, part.type))
    return sum(1 << place for place, name in enumerate(MARKS) if name in found)
