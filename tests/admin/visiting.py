"""A visitor of the admin who speaks ASGI directly: no client between them tidies up hostile paths or headers."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import unquote, urlencode

__all__ = ["Answer", "Visitor", "exchange", "loop"]

loop = asyncio.Runner()
Headers = Mapping[str, str] | Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    content: bytes

    def header(self, name: str) -> str:
        """The value of a header; empty where there is none."""
        return ", ".join(value for key, value in self.headers if key == name)

    @property
    def text(self) -> str:
        return self.content.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def location(self) -> str:
        return self.header("location")

    @property
    def everything(self) -> str:
        """Headers and content: what a visitor may learn anything from."""
        return "\n".join(f"{key}: {value}" for key, value in self.headers) + "\n" + self.content.decode("latin-1")


async def exchange(app: Any, scope: dict[str, Any], body: bytes = b"") -> Answer:
    """One HTTP exchange with an ASGI app."""
    start: dict[str, Any] = {}
    content = bytearray()
    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            assert not start, "two answers to one call"
            start.update(message)
        else:
            content.extend(message.get("body", b""))

    await app(scope, receive, send)
    headers = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in start["headers"]]
    return Answer(start["status"], headers, bytes(content))


@dataclass
class Visitor:
    """A browser or a script at some place on the network, with its cookies."""

    app: Any
    peer: str | None = "203.0.113.9"
    host: str | None = "admin.example"
    scheme: str = "http"
    root_path: str = ""
    headers: dict[str, str] = field(default_factory=dict)  # sent each time
    cookies: dict[str, str] = field(default_factory=dict)
    scope: dict[str, Any] = field(default_factory=dict)  # anything else of the ASGI scope

    def request(self, method: str, target: str, headers: Headers = (), body: bytes = b"") -> "dict[str, Any]":
        """The ASGI scope of a call."""
        path, _, query = target.partition("?")
        given = [*self.headers.items(), *(headers.items() if isinstance(headers, Mapping) else headers)]
        if self.host is not None and not any(name == "host" for name, _ in given):
            given.append(("host", self.host))
        if self.cookies:
            given.append(("cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items())))
        if body:
            given.append(("content-length", str(len(body))))
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": self.scheme,
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": self.root_path,
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given],
            "client": None if self.peer is None else (self.peer, 51234),
            "server": ("10.0.0.5", 8000),
            **self.scope,
        }

    def ask(self, method: str, target: str, headers: Headers = (), body: bytes = b"") -> Answer:
        """Make a call and keep its cookies."""
        answer = loop.run(exchange(self.app, self.request(method, target, headers, body), body))
        self.keep(answer)
        return answer

    def get(self, target: str, **headers: str) -> Answer:
        """A plain GET; ``sec_fetch_site=…`` becomes the header of that name."""
        return self.ask("GET", target, {name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, target: str, fields: Mapping[str, str] | None = None, **headers: str) -> Answer:
        """A form that a page of ours sends, unless *headers* say otherwise; an empty one is not sent."""
        sent = {
            "content-type": "application/x-www-form-urlencoded",
            "origin": f"{self.scheme}://{self.host}",
            "sec-fetch-site": "same-origin",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        present = {name: value for name, value in sent.items() if value}
        return self.ask("POST", target, present, urlencode(fields or {}).encode())

    def keep(self, answer: Answer) -> None:
        for name, value in answer.headers:
            if name == "set-cookie":
                for key, morsel in SimpleCookie(value).items():
                    if morsel["max-age"] == "0":
                        self.cookies.pop(key, None)
                    else:
                        self.cookies[key] = morsel.value
