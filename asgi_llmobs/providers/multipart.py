"""Form bodies (``multipart/form-data``) of uploads: fields as text, files by name, type and size only."""

from dataclasses import field

import orjson

from asgi_llmobs.frozen import record
from asgi_llmobs.patterns import compiled
from asgi_llmobs.providers.values import modality_of
from asgi_llmobs.records import Part

__all__ = ["Form", "form_of", "summary_of"]

BOUNDARY = r'(?i)boundary=(?:"([^"]+)"|([^;\s]+))'
PARAMETER = r';\s*([\w*]+)="?((?<=")[^"]*+|[^;"\s]*+)'
MAX_PARTS = 1000
MAX_FIELD = 65536  # bytes of a field that are read; a longer one is no parameter


@record(frozen=False, eq=False, repr=False, slots=True, kw_only=True)
class Form:
    """A form body."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[Part] = field(default_factory=list)


def form_of(body: bytes, content_type: str) -> Form | None:
    """The form that *body* is, ``None`` where its content type names no boundary."""
    found = compiled(BOUNDARY).search(content_type)
    if not content_type.lower().startswith("multipart/form-data") or found is None:
        return None
    boundary = found[1] or found[2]
    form = Form()
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("utf-8", "replace"), MAX_PARTS)
    for piece in pieces[1:]:
        head, blank, content = piece.partition(b"\r\n\r\n")
        if blank and not piece.startswith(b"--"):
            take_part(head, content, form)
    return form


def summary_of(body: bytes, content_type: str) -> bytes:
    """What is stored of an upload, as JSON: its fields, and of files name, type and size, never the bytes."""
    form = form_of(body, content_type) or Form()
    files = [{"filename": part.name, "type": part.mime_type, "size": part.size} for part in form.files]
    return orjson.dumps({"multipart": {"fields": form.fields, "files": files, "size": len(body)}})


def take_part(head: bytes, content: bytes, form: Form) -> None:
    """Add one part to *form*."""
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head.decode("utf-8", "replace").splitlines())
    }
    given = {name.lower(): value for name, value in compiled(PARAMETER).findall(headers.get("content-disposition", ""))}
    filename = given.get("filename", given.get("filename*"))
    if filename is not None:
        kind = headers.get("content-type")
        part = Part(type="blob", name=filename, mime_type=kind, modality=modality_of(kind), size=len(content))
        form.files.append(part)
    elif "name" in given:
        form.fields[given["name"]] = content[:MAX_FIELD].decode("utf-8", "replace")
