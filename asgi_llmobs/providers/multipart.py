"""Form bodies (``multipart/form-data``) of uploads: fields as text, files by name, type and size only."""

from dataclasses import dataclass, field
from email.message import Message

from asgi_llmobs.providers.values import modality_of
from asgi_llmobs.records import Part

__all__ = ["Form", "form_of"]

MAX_PARTS = 1000
MAX_FIELD = 65536  # bytes of a field that are read; a longer one is no parameter


@dataclass(slots=True)
class Form:
    """A form body."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[Part] = field(default_factory=list)


def form_of(body: bytes, content_type: str) -> Form | None:
    """The form that *body* is, ``None`` where its content type names no boundary."""
    header = Message()
    header["content-type"] = content_type.replace("\r", " ").replace("\n", " ")
    boundary = header.get_boundary()
    if header.get_content_type() != "multipart/form-data" or not boundary:
        return None
    form = Form()
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("utf-8", "replace"), MAX_PARTS)
    for piece in pieces[1:]:
        head, found, content = piece.partition(b"\r\n\r\n")
        if found and not piece.startswith(b"--"):
            take_part(head, content, form)
    return form


def take_part(head: bytes, content: bytes, form: Form) -> None:
    """Add one part to *form*."""
    headers = Message()
    for line in head.decode("utf-8", "replace").splitlines():
        field_name, _, value = line.partition(":")
        field_name = field_name.strip().lower()
        if value and field_name in ("content-disposition", "content-type") and field_name not in headers:
            headers[field_name] = value.strip()
    name = headers.get_param("name", None, "content-disposition")
    filename = headers.get_filename()
    if filename is not None:
        mime_type = headers.get("content-type")
        form.files.append(
            Part(type="blob", name=filename, mime_type=mime_type, modality=modality_of(mime_type), size=len(content))
        )
    elif isinstance(name, str):
        form.fields[name] = content[:MAX_FIELD].decode("utf-8", "replace")
