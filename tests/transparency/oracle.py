"""The oracle: the same case with and without us, and everything that an app could notice of the difference."""

import asyncio
import gc
import inspect
import io
import itertools
import ssl
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import httpx2

from asgi_llmobs.capture import clients
from asgi_llmobs.capture.retries import retries
from asgi_llmobs.testing.recording import Captured
from tests.transparency.scripted import Hop, Log, ScriptedTransport, Uploaded

__all__ = ["FAMILIES", "MODES", "Case", "compare", "settle", "tagged"]

FAMILIES = {"httpx": httpx, "httpx2": httpx2}
MODES = ("auto", "wrapped", "transport", "wrapped and auto")
CONTEXT = ssl.create_default_context()
URL = "http://provider.test/v1/chat/completions"
numbers = itertools.count(1)


@dataclass(frozen=True)
class Case:
    """One way of calling and of reading what comes back."""

    hops: Sequence[Hop] = (Hop(),)
    url: str = URL
    method: str = "POST"
    body: str = "json"  # json content form multipart generator broken-generator none
    prompt: str = "hello"
    read: str = "send"
    chunk_size: int | None = None
    stop_after: int = 1
    auth: bool = False
    hooks: bool = False
    follow: bool = True
    cancel_at: frozenset[int] = frozenset()
    entered: bool = True
    timeout: float = 5.0
    network: bool = False


class TwoStepAuth:
    """An auth flow that answers a 401 with a token, inside one send."""

    requires_request_body = True

    def build(self, family: Any) -> Any:
        class Flow(family.Auth):
            requires_request_body = False

            def auth_flow(self, request):
                response = yield request
                if response.status_code == 401:
                    request.headers["authorization"] = "Bearer of-the-second-step"
                    yield request

        return Flow()


async def settle(value: Any) -> Any:
    """The value, awaited where it has to be: one script serves both kinds of client."""
    return await value if inspect.isawaitable(value) else value


def drive(coroutine: Any) -> Any:
    """Run a coroutine that never waits, as that of a sync client, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a sync client waited")


def request_arguments(case: Case, log: Log, is_async: bool) -> dict[str, Any]:
    payload = {"model": "gpt-4o", "messages": [{"role": "user", "content": case.prompt}]}
    upload = Uploaded((b'{"model": "gpt-4o", ', b'"messages"', b": []}"), log)
    match case.body:
        case "json":
            return {"json": payload}
        case "content":
            return {"content": b'{"model": "gpt-4o", "messages": []}', "headers": {"content-type": "application/json"}}
        case "form":
            return {"data": {"model": "gpt-4o"}}
        case "multipart":
            files = {"file": ("a.wav", io.BytesIO(b"RIFF\0\1\2"), "audio/wav")}
            fixed = {"content-type": "multipart/form-data; boundary=the-boundary"}
            return {"data": {"model": "whisper-1"}, "files": files, "headers": fixed}
        case "generator" | "broken-generator":
            upload.fails_after = 1 if case.body == "broken-generator" else None
            return {"content": upload.asynchronous() if is_async else upload.sync()}
    return {}


async def consume(case: Case, client: Any, request: Any, seen: list[Any], is_async: bool) -> Any:
    """Send the request and read the answer in the way that the case says."""
    a = "a" if is_async else ""
    if case.read == "send":
        return await settle(client.send(request, follow_redirects=case.follow))
    response = await settle(client.send(request, stream=True, follow_redirects=case.follow))
    seen.append(("before", response.is_closed, response.is_stream_consumed))
    close = getattr(response, f"{a}close")
    if case.read == "never":
        return response
    if case.read == "close":
        await settle(close())
        await settle(close())
        return response
    if case.read in ("read", "read twice"):
        for _ in range(case.read.count(" ") + 1):
            seen.append(("read", await settle(getattr(response, f"{a}read")())))
        return response
    how = case.read.split()[0]
    options = {} if how == "iter_lines" else {"chunk_size": case.chunk_size}
    iterator = getattr(response, f"{a}{how}")(**options)
    taken = 0
    try:
        while not (case.read.endswith("break") and taken >= case.stop_after):
            piece = await iterator.__anext__() if is_async else next(iterator)
            seen.append(("piece", piece))
            taken += 1
    except (StopIteration, StopAsyncIteration):
        seen.append("end")
    if case.read.endswith("break"):
        await settle(getattr(iterator, f"{a}close")())
        del iterator
        await settle(close())
    return response


def described(response: Any) -> list[Any]:
    """What can be seen of a response afterwards."""
    try:
        elapsed = response.elapsed is not None
    except RuntimeError as error:
        elapsed = str(error)
    try:
        content = response.content
    except Exception as error:
        content = type(error).__name__
    return [
        ("status", response.status_code, response.reason_phrase, response.http_version),
        ("headers", response.headers.raw),
        ("closed", response.is_closed, response.is_stream_consumed, response.num_bytes_downloaded),
        ("elapsed", elapsed),
        ("content", content, response.encoding, response.charset_encoding),
        ("cookies", jar(response.cookies)),
        ("history", [(one.status_code, one.is_closed, str(one.url)) for one in response.history]),
        ("sent", response.request.method, str(response.request.url), response.request.headers.raw),
        ("extensions", sorted(response.extensions)),
        ("sent extensions", sorted(set(response.request.extensions) - {"llmobs"})),
    ]


async def script(case: Case, family: Any, is_async: bool, mode: str, obs: Any, tag: str, upstream: Any) -> list[Any]:
    """Everything seen by the app and by the provider in one run."""
    log = Log(case.cancel_at)
    seen: list[Any] = []
    kind = family.AsyncClient if is_async else family.Client
    hooks: dict[str, list[Callable[..., Any]]] = {}
    if case.hooks:
        hooks = hooks_for(seen, is_async)
    inner = None if case.network else ScriptedTransport(family, case.hops, log)
    options: dict[str, Any] = {"event_hooks": hooks, "timeout": case.timeout, "cookies": {"was": "here"}}
    if inner is None:
        inner = (family.AsyncHTTPTransport if is_async else family.HTTPTransport)(verify=CONTEXT)
    client = kind(transport=obs.transport(inner) if mode == "transport" else inner, verify=CONTEXT, **options)
    if mode.startswith("wrapped"):
        assert obs.wrap(client) is client
    if case.auth:
        client.auth = TwoStepAuth().build(family)
    if case.entered:
        await settle(client.__aenter__() if is_async else client.__enter__())
    response = None
    try:
        arguments = request_arguments(case, log, is_async)
        request = client.build_request(case.method, case.url, **arguments)
        if mode != "bare":
            request.headers["LLMObs-Request-Id"] = tag
            request.headers["helicone-property-Case"] = "one"
        response = await consume(case, client, request, seen, is_async)
    except BaseException as error:
        if isinstance(error, AssertionError):
            raise
        chain = [type(one).__name__ for one in (error.__cause__, error.__context__) if one is not None]
        seen.append(("error", type(error), error.args, chain, hasattr(error, "_request")))
        del error
    if response is not None:
        seen += described(response)
    if case.network:
        seen.append(("pool", [repr(connection) for connection in inner._pool.connections]))
        seen = joined(seen)
    response = None
    seen.append(("jar", jar(client.cookies)))
    await settle(client.aclose() if is_async else client.close())
    seen.append(("client", client.is_closed))
    seen += upstream.received(case.url) if upstream is not None else log
    return seen


def jar(cookies: Any) -> list[Any]:
    return [(cookie.name, cookie.value, cookie.domain, cookie.path) for cookie in cookies.jar]


def joined(seen: list[Any]) -> list[Any]:
    """The same, with all pieces as one: where a socket's bytes are cut is a matter of time."""
    pieces = [entry[1] for entry in seen if entry[0] == "piece"]
    others = [entry for entry in seen if entry[0] != "piece"]
    return [*others, ("pieces", pieces[0][:0].join(pieces) if pieces else None)]


def hooks_for(seen: list[Any], is_async: bool) -> dict[str, list[Callable[..., Any]]]:
    async def on_request(request: Any) -> None:
        ours = [name for name, _ in request.headers.raw if name.lower().startswith((b"llmobs", b"helicone"))]
        seen.append(("hook", request.method, ours and "unsent yet"))

    async def on_response(response: Any) -> None:
        seen.append(("hook", response.status_code))
        await settle(response.aread() if is_async else response.read())

    def plain(hook: Callable[..., Any]) -> Callable[..., Any]:
        return lambda thing: drive(hook(thing))

    pair = (on_request, on_response) if is_async else (plain(on_request), plain(on_response))
    return {"request": [pair[0]], "response": [pair[1]]}


def run(case: Case, family: Any, is_async: bool, mode: str, obs: Any, tag: str, upstream: Any) -> list[Any]:
    clients.uninstrument()
    retries.reset_after_fork()  # each run is a call of its own, though it sends the same bytes
    if "auto" in mode:
        clients.instrument()
    try:
        coroutine = script(case, family, is_async, mode, obs, tag, upstream)
        return asyncio.run(coroutine) if is_async else drive(coroutine)
    finally:
        clients.uninstrument()


def compare(
    captured: Captured, case: Case, family: Any, is_async: bool, modes: Sequence[str] = MODES, upstream: Any = None
) -> dict[str, list[Any]]:
    """Run *case* bare and in *modes*, insist that there is no difference, and give the records of each mode."""
    tags = {mode: str(next(numbers)) for mode in modes}
    bare = watched(case, family, is_async, "bare", captured.obs, "", upstream)
    for mode, tag in tags.items():
        seen = watched(case, family, is_async, mode, captured.obs, tag, upstream)
        assert (mode, seen) == (mode, bare)
    gc.collect(1)
    records = {mode: tagged(captured, tag) for mode, tag in tags.items()}
    if not all(records.values()):
        gc.collect()  # what the app never closed ends when it is collected
        records = {mode: tagged(captured, tag) for mode, tag in tags.items()}
    captured.clear()
    return records


def watched(case: Case, family: Any, is_async: bool, mode: str, obs: Any, tag: str, upstream: Any) -> list[Any]:
    """One run, with what was raised where nobody can catch it."""
    left = case.read.endswith(("break", "never")) or any(hop.fails or hop.close_fails for hop in case.hops)
    if case.network and left:
        gc.collect()  # what earlier runs left behind is not to be found in this one
    hook, unraisable = sys.unraisablehook, set()
    sys.unraisablehook = lambda found: unraisable.add((found.exc_type, str(found.exc_value)))
    try:
        seen = run(case, family, is_async, mode, obs, tag, upstream)
        if left:
            gc.collect(1 + case.network)
    finally:
        sys.unraisablehook = hook
    return [*without_marks(seen), unraisable]


def without_marks(seen: list[Any]) -> list[Any]:
    # in a client that is only wrapped, hooks run before the transport: our headers are not taken out yet
    return [("hook", entry[1]) if isinstance(entry, tuple) and entry[0] == "hook" else entry for entry in seen]


def tagged(captured: Captured, tag: str) -> list[Any]:
    """The records of the run that was given this tag."""
    return [record for record in captured.requests if record.request_id == tag]
