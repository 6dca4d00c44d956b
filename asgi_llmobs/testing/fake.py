"""A provider that is not there: an ASGI app that speaks OpenAI, Anthropic and Gemini, with no key and no network."""

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import anyio

from asgi_llmobs.providers import PROVIDERS
from asgi_llmobs.providers.base import Provider
from asgi_llmobs.testing.answers import Answer, Question, answer, tokens_of
from asgi_llmobs.testing.dialects import DIALECTS, Call, Dialect, Piece, Reply, find
from asgi_llmobs.testing.script import Received, Rule, Script
from asgi_llmobs.testing.server import serve

__all__ = ["ConnectionDropped", "FakeProvider"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MESSAGES = {
    400: "Invalid request.",
    401: "Incorrect API key provided.",
    404: "The model does not exist or you do not have access to it.",
    429: "Rate limit reached. Please try again later.",
    500: "The server had an error while processing your request.",
    503: "The engine is currently overloaded, please try again later.",
    529: "Overloaded",
}
MAX_SEEN = 10_000


class ConnectionDropped(Exception):
    """Raised out of the app so that the server closes the connection in the middle of an answer."""


class FakeProvider:
    """Answers as OpenAI, Anthropic and Gemini do, whole and streamed, deterministically.

    With tools in the request it first calls those whose names fit what the user said, and answers from their results
    afterwards. A conversation that goes on reports cached tokens, a reasoning model reasoning tokens.

    Run it on a socket with :meth:`serve`, or hand it to ``httpx.ASGITransport(app=fake)`` to stay in the process (that
    transport gives a stream only when it is complete).

    Args:
        delay: Seconds before the headers of every answer.
        first_token_delay: Seconds between the headers and the first content of a stream.
        chunk_delay: Seconds between the pieces of a stream.

    Attributes:
        log: Every request so far, as :class:`Received`.
    """

    def __init__(self, *, delay: float = 0.0, first_token_delay: float = 0.0, chunk_delay: float = 0.0) -> None:
        self.delay = delay
        self.first_token_delay = first_token_delay
        self.chunk_delay = chunk_delay
        self.log: list[Received] = []
        self._script = Script()
        self._numbers = count(1)
        self._seen: dict[str, None] = {}

    @property
    def providers(self) -> tuple[Provider, ...]:
        """For the option ``providers``: what is served on 127.0.0.1 is named, and priced, as the real one."""
        names = {dialect.provider for dialect in DIALECTS}
        return tuple(replace(item, hosts=(r"127\.0\.0\.1",)) for item in PROVIDERS if item.name in names)

    def script(self, **what: Any) -> None:
        """Answer otherwise; rules are asked in the order in which they were given.

        Args:
            when: For which requests: a text that occurs in the path or the body, or a callable over
                :class:`Received`; all unless given.
            times: How often (default 1); ``None`` for ever.
            status: HTTP status of an error in the dialect's own shape; ``message`` is its text.
            retry_after: Seconds, sent as ``Retry-After``.
            headers: Further response headers.
            body: A raw body, bytes or JSON, instead of an answer; ``content_type`` names its type.
            text, reasoning, refusal, finish: Parts of the answer. ``finish`` is ``stop``, ``length``, ``tool_calls``
                or ``content_filter``.
            tool_calls: Tools to call, as ``(name, arguments)``.
            usage: Counts: ``input_tokens``, ``cached_tokens``, ``cache_write_tokens``, ``output_tokens``,
                ``reasoning_tokens``.
            delay, first_token_delay, chunk_delay: As for the class, in seconds.
            drop_after: Drop the connection after so many pieces of the body.
            end_after: End the stream cleanly after so many pieces, without its closing events.

        The same, without the braces of code, from the outside: a request header ``X-Fake: status=429; times=1;
        retry_after=0.5``, or ``"metadata": {"fake": "…"}`` in the body. ``times`` counts identical bodies there, as
        retries send them.

        Raises:
            TypeError: There is no such argument.
            ValueError: ``usage`` names an unknown count.
        """
        self._script.rules.append(Rule(**what))

    def reset(self) -> None:
        """Forget the log, the rules and every conversation."""
        self.log.clear()
        self._script.clear()
        self._seen.clear()
        self._numbers = count(1)

    @contextmanager
    def serve(self, port: int = 0) -> Iterator[str]:
        """Run on 127.0.0.1 in a thread, until the block ends.

        Gives the address: ``base_url`` of the OpenAI SDK is that address and ``/v1``; of Anthropic and Gemini the
        address itself.
        """
        with serve(self, port=port, lifespan="off") as url:
            yield url

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise NotImplementedError(f"the fake provider speaks HTTP, not {scope['type']}")
        body = await _read(receive)
        received = Received(
            method=scope["method"],
            path=scope["path"],
            query=scope.get("query_string", b"").decode("latin-1"),
            headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]},
            body=body,
        )
        self.log.append(received)
        dialect = find(received.method, received.path)
        if dialect is not None:
            received.dialect, received.operation = dialect.provider, dialect.operation
        try:
            rule = self._script.rule_for(received)
        except ValueError as error:
            rule = Rule(status=400, message=str(error))
        exchange = Exchange(self, received, dialect, rule, next(self._numbers))
        if await exchange.run(receive, send):
            raise ConnectionDropped(received.path)

    def reply(self, received: Received, dialect: Dialect | None, rule: Rule, number: int) -> tuple[int, Reply]:
        """The status and the reply to one request."""
        if dialect is None:
            return 404, _error(None, 404, f"Unknown request URL: {received.method} {received.path}")
        if rule.body is not None:
            raw = rule.body if isinstance(rule.body, bytes) else json.dumps(rule.body).encode()
            return rule.status or 200, Reply(body=raw, content_type=rule.content_type)
        if rule.status is not None and rule.status >= 300:
            return rule.status, _error(dialect, rule.status, rule.message or MESSAGES.get(rule.status, "Error"))
        is_json = "json" in received.headers.get("content-type", "")
        if is_json and not received.json:
            return 400, _error(dialect, 400, "We could not parse the JSON body of your request.")
        call = Call(body=received.json, path=received.path, query=received.parameters, number=number)
        if dialect.read is None:
            return rule.status or 200, dialect.reply(call, None, None)
        question = dialect.read(call)
        said = rule.change(self._cached(dialect, received, question, answer(question)))
        return rule.status or 200, dialect.reply(call, question, said)

    def _cached(self, dialect: Dialect, received: Received, question: Question, said: Answer) -> Answer:
        """The answer with the tokens that a provider would find in its prompt cache: the longest beginning seen."""
        explicit = dialect.provider == "anthropic"
        if explicit and b'"cache_control"' not in received.body:
            return said
        digest = hashlib.sha256(question.model.encode())
        known = tokens = 0
        for turn in question.turns:
            digest.update(f"{turn.role}\0{turn.text}\0".encode(errors="surrogatepass"))
            tokens += tokens_of(turn.text) + 4
            if digest.hexdigest() in self._seen:
                known = tokens
            elif len(self._seen) < MAX_SEEN:
                self._seen[digest.hexdigest()] = None
        if explicit:
            written = max(0, said.input_tokens - known - 4)
            return replace(said, cached_tokens=known, cache_write_tokens=written)
        return replace(said, cached_tokens=known // 64 * 64)


class Exchange:
    """One request being answered, until it is done or the client goes away."""

    def __init__(
        self, fake: FakeProvider, received: Received, dialect: Dialect | None, rule: Rule, number: int
    ) -> None:
        self.fake = fake
        self.received = received
        self.dialect = dialect
        self.rule = rule
        self.number = number
        self.done = False

    async def run(self, receive: Receive, send: Send) -> bool:
        """Answer; ``True`` where the connection is to be dropped."""
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                if not self.done:
                    self.received.disconnected = True
                    group.cancel_scope.cancel()

            group.start_soon(watch)
            dropped = await self._answer(send)
            group.cancel_scope.cancel()
        return not self.received.disconnected and dropped

    async def _answer(self, send: Send) -> bool:
        await self._pause("delay")
        status, reply = self.fake.reply(self.received, self.dialect, self.rule, self.number)
        self.received.status = status
        await send({"type": "http.response.start", "status": status, "headers": self._headers(reply)})
        sent = 0
        async for piece in self._paced(reply):
            if self.rule.drop_after is not None and sent >= self.rule.drop_after:
                self.done = True
                return True
            if self.rule.end_after is not None and sent >= self.rule.end_after:
                break
            await send({"type": "http.response.body", "body": piece.data, "more_body": True})
            sent += 1
        self.done = True
        await send({"type": "http.response.body", "body": b""})
        return False

    async def _paced(self, reply: Reply) -> AsyncIterator[Piece]:
        if reply.pieces is None:
            # in two halves, so that a drop can fall into the middle of a whole body too
            middle = len(reply.body) // 2 if self.rule.drop_after is not None else len(reply.body)
            for data in filter(None, (reply.body[:middle], reply.body[middle:])):
                yield Piece(data)
            return
        pause = "first_token_delay"
        for piece in reply.pieces:
            if piece.content:
                await self._pause(pause)
                pause = "chunk_delay"
            yield piece

    async def _pause(self, name: str) -> None:
        given = getattr(self.rule, name)
        seconds = getattr(self.fake, name) if given is None else given
        if seconds:
            await anyio.sleep(seconds)

    def _headers(self, reply: Reply) -> list[tuple[bytes, bytes]]:
        headers = {"content-type": reply.content_type, **reply.headers}
        if reply.pieces is None:
            headers["content-length"] = str(len(reply.body))
        if self.dialect is not None and self.dialect.provider != "google":
            name = "request-id" if self.dialect.provider == "anthropic" else "x-request-id"
            headers[name] = f"req_{self.number:024x}"
        if self.rule.retry_after is not None:
            headers["retry-after"] = f"{self.rule.retry_after:g}"
        headers.update(self.rule.headers)
        return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def _error(dialect: Dialect | None, status: int, message: str) -> Reply:
    return Reply(body=json.dumps((dialect or DIALECTS[0]).error(status, message)).encode())


async def _read(receive: Receive) -> bytes:
    chunks = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
