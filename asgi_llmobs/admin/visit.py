"""One request to the admin: its path below the mount, its JSON twin, and what is known of the visitor so far."""

from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import Request

from asgi_llmobs.admin.address import to_root
from asgi_llmobs.admin.answers import new_nonce
from asgi_llmobs.admin.lock import Decision

__all__ = ["Visit", "asked", "visit_of"]

UNRESERVED = "~:@+=,"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A request, and the lock's decision on it once there is one."""

    request: Request
    segments: tuple[str, ...]
    base: str  # the way up to the mount
    as_json: bool
    nonce: str
    decision: Decision = Decision()

    @property
    def gzipped(self) -> bool:
        return "gzip" in self.request.headers.get("accept-encoding", "")

    @property
    def path(self) -> str:
        """The path below the mount, quoted, without the ``.json`` of a twin."""
        return quoted(self.segments)

    @property
    def above(self) -> str | None:
        """The path without the slash that it ends with, ``None`` where it ends with none."""
        extra = len(self.segments) > 1 and self.segments[-1] == "" and self.segments[-2] not in (".", "..")
        return quoted(self.segments[:-1]) if extra else None

    @property
    def twin(self) -> str:
        """The address of the JSON twin, from the mount."""
        return f"{self.path or 'index'}.json{asked(self.request)}"


def visit_of(request: Request, path: str) -> Visit:
    """The visit to *path*, which is the one below the mount."""
    segments = tuple(path[1:].split("/")) if path.startswith("/") else (path,)
    as_json = segments[-1].endswith(".json")
    if as_json:
        stem = segments[-1].removesuffix(".json")
        segments = (*segments[:-1], "" if segments in ((".json",), ("index.json",)) else stem)
    return Visit(request=request, segments=segments, base=to_root(request.scope), as_json=as_json, nonce=new_nonce())


def quoted(segments: tuple[str, ...]) -> str:
    return "/".join(quote(part, safe=UNRESERVED) for part in segments)


def asked(request: Request) -> str:
    """The query as it came, with its question mark."""
    query = request.scope.get("query_string", b"").decode("latin-1")
    return "?" + quote(query, safe="=&+%~:@!$'()*,;/?-._") if query else ""
