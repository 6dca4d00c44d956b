"""The shells around streams: what they pass on, what they tell, and that they are of the right family."""

import asyncio
import gc
import weakref

import httpx
import httpx2
import pytest

from asgi_llmobs.capture import streams


class Told:
    """What a stream tells of itself."""

    def __init__(self):
        self.log, self.done = [], False

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.log.append((name, *args, *kwargs.items()))

    def finish(self, *args, **kwargs):
        self.log.append(("finish", *args, *kwargs.items()))
        self.done = True


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def family(request):
    """Each of the two client libraries."""
    return request.param


def test_the_family_is_told_by_any_ancestor(family):
    """Of subclasses too; other things belong to none."""

    class Mine(family.Request):
        pass

    assert streams.family_of(Mine("GET", "http://x")).module is family
    with pytest.raises(TypeError, match="neither"):
        streams.family_of(object())


def test_shells_have_the_attributes_of_what_is_inside(family):
    """And no others; wrapping a request body again takes the old shell off."""

    class Inner(family.SyncByteStream):
        colour = "blue"

        def __iter__(self):
            yield b"x"

    inner, told = Inner(), Told()
    shell = streams.family_of(family.Request("GET", "http://x")).watch_request(inner, told)

    assert shell.colour == "blue" and not hasattr(shell, "size")
    assert isinstance(shell, family.SyncByteStream) and not isinstance(shell, family.AsyncByteStream)
    assert streams.unwatched(shell) is inner and streams.unwatched(inner) is inner
    assert list(shell) == [b"x"] and told.log == [("resend",), ("sent", b"x")]


def test_a_body_that_can_do_both_still_can(family):
    """A multipart body is sent by sync and async clients."""
    request = family.Request("POST", "http://x", files={"f": b"abc"})
    told = Told()
    shell = streams.family_of(request).watch_request(request.stream, told)

    async def collect():
        return b"".join([part async for part in shell])

    assert isinstance(shell, family.SyncByteStream) and isinstance(shell, family.AsyncByteStream)
    assert b"".join(shell) == asyncio.run(collect())


def test_what_a_stream_tells(family):
    """Each chunk, the end, the close; the failure as it is."""

    class Inner(family.SyncByteStream):
        def __init__(self, error=None):
            self.error = error

        def __iter__(self):
            yield b"a"
            if self.error:
                raise self.error

    told = Told()
    response = family.Response(200, stream=Inner())
    streams.attach(response, told, is_async=False)
    assert response.read() == b"a"
    assert [entry[0] for entry in told.log] == ["answered", "received", "finish", "closed"]
    assert told.log[2] == ("finish", ("eof", True))

    error = family.ReadError("x")
    told = Told()
    response = family.Response(200, stream=Inner(error))
    streams.attach(response, told, is_async=False)
    with pytest.raises(family.ReadError) as info:
        response.read()
    assert info.value is error and ("fail", error) in told.log


def test_a_watch_that_fails_is_not_noticed(family):
    """Whatever it raises."""

    class Broken(Told):
        def __getattr__(self, name):
            def fail(*args, **kwargs):
                raise RuntimeError(name)

            return fail

        finish = None

    class Inner(family.SyncByteStream):
        def __iter__(self):
            yield b"a"
            yield b"b"

    response = family.Response(200, stream=Inner())
    streams.attach(response, Broken(), is_async=False)

    assert list(response.iter_raw()) == [b"a", b"b"]


def test_nothing_is_held_by_a_response_that_is_gone(family):
    """Its stream, and what it told, go with it."""

    class Inner(family.SyncByteStream):
        def __iter__(self):
            yield b"a"

    inner, told = Inner(), Told()
    response = family.Response(200, stream=inner)
    streams.attach(response, told, is_async=False)
    watch = weakref.ref(inner)
    del response, inner
    gc.collect()

    assert watch() is None and told.log[-1] == ("finish", "abandoned")


def test_the_first_collection_takes_a_response_that_was_read(family):
    """The client's own circle around it holds bodies: one that survived a collection would do so for long."""

    class Inner(family.SyncByteStream):
        def __iter__(self):
            yield b"a"

    with family.Client(transport=family.MockTransport(lambda _: family.Response(200, stream=Inner()))) as client:
        gc.collect()
        gc.disable()
        try:
            with client.stream("GET", "http://x") as response:
                streams.attach(response, Told(), is_async=False)
                assert response.read() == b"a"
            del response
            gc.collect(0)
            left = [found for found in gc.get_objects() if isinstance(found, Inner)]
        finally:
            gc.enable()

    assert left == []


def test_an_async_generator_is_closed_as_one(family):
    """Leaving the iteration closes the inner generator at once, where its library does so."""
    log = []

    class Inner(family.AsyncByteStream):
        async def __aiter__(self):
            try:
                yield b"a"
                yield b"b"
            finally:
                log.append("closed")

    async def main():
        response = family.Response(200, stream=Inner())
        streams.attach(response, Told(), is_async=True)
        iterator = response.stream.__aiter__()
        assert await iterator.__anext__() == b"a"
        await iterator.aclose()
        assert log == ["closed"]
        with pytest.raises(StopAsyncIteration):
            await iterator.__anext__()

    asyncio.run(main())


@pytest.mark.parametrize("anew", [True, False], ids=["begins-anew", "goes-on"])
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_a_body_that_is_drained_after_its_last_event_is_noted_once(family, anew, is_async, llmobs):
    """The OpenAI SDK iterates over the stream a second time; on a connection that goes on, in memory it starts over."""
    parts = [b'data: {"id":"1","choices":[]}\n\n', b"data: [DONE]\n\n", b": bye\n\n"]
    left = iter(parts)

    class Body(family.AsyncByteStream, family.SyncByteStream):
        def __iter__(self):
            yield from parts if anew else left

        async def __aiter__(self):
            for part in parts if anew else left:
                yield part

    class Transport(family.AsyncBaseTransport, family.BaseTransport):
        def handle_request(self, request):
            return family.Response(200, headers={"content-type": "text/event-stream"}, stream=Body())

        async def handle_async_request(self, request):
            return self.handle_request(request)

    url = "https://api.openai.com/v1/chat/completions"
    if is_async:

        async def ask():
            async with family.AsyncClient(transport=Transport()) as client:
                async with client.stream("POST", url, json={"model": "m", "stream": True}) as response:
                    first = aiter(response.stream)
                    assert [await anext(first), await anext(first)] == parts[:2]
                    assert [part async for part in response.stream] == (parts if anew else parts[2:])

        asyncio.run(ask())
    else:
        with family.Client(transport=Transport()) as client:
            with client.stream("POST", url, json={"model": "m", "stream": True}) as response:
                first = iter(response.stream)
                assert [next(first), next(first)] == parts[:2]
                assert list(response.stream) == (parts if anew else parts[2:])

    [request] = llmobs.requests
    assert request.response_body.content == b"".join(parts[:2] if anew else parts)
    assert request.chunks == (2 if anew else 3) and request.outcome == "ok"
