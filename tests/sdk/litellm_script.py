"""Run by ``test_litellm.py`` in the interpreter that has litellm: each scenario bare, then watched; prints JSON.

Usage: ``python litellm_script.py <address of the fake provider>``
"""

import asyncio
import gc
import json
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import httpx
import litellm

from asgi_llmobs.records import Request
from asgi_llmobs.testing import FakeProvider, capture

URL = sys.argv[1]
HELLO: Any = [{"role": "user", "content": "Can I cancel my booking?"}]
OPENAI: Any = {"model": "openai/gpt-4o-mini", "api_base": f"{URL}/v1", "api_key": "none"}
ANTHROPIC: Any = {"model": "anthropic/claude-haiku-4-5", "api_base": URL, "api_key": "none", "max_tokens": 500}
VECTORS: Any = {"model": "openai/text-embedding-3-small", "api_base": f"{URL}/v1", "api_key": "none"}
USAGE = {"stream": True, "stream_options": {"include_usage": True}}

sends: Counter[str] = Counter()
run = ""  # bare or watched: makes directives to the fake provider differ


def count_sends() -> None:
    for kind in (httpx.Client, httpx.AsyncClient):
        original = kind.send

        def send(self: Any, *args: Any, _original: Any = original, _name: str = kind.__name__, **options: Any) -> Any:
            sends[_name] += 1
            return _original(self, *args, **options)

        kind.send = send  # type: ignore[method-assign]


async def completion() -> Any:
    return litellm.completion(**OPENAI, messages=HELLO, temperature=0.1)


async def acompletion() -> Any:
    return await litellm.acompletion(**OPENAI, messages=HELLO, temperature=0.1)


async def stream() -> Any:
    return list(litellm.completion(**OPENAI, messages=HELLO, **USAGE))


async def astream() -> Any:
    return [chunk async for chunk in await litellm.acompletion(**OPENAI, messages=HELLO, **USAGE)]


async def anthropic() -> Any:
    return litellm.completion(**ANTHROPIC, messages=HELLO)


async def aanthropic() -> Any:
    return await litellm.acompletion(**ANTHROPIC, messages=HELLO)


async def anthropic_stream() -> Any:
    return [chunk async for chunk in await litellm.acompletion(**ANTHROPIC, messages=HELLO, stream=True)]


async def embedding() -> Any:
    return litellm.embedding(**VECTORS, input=["one", "two"])


async def aembedding() -> Any:
    return await litellm.aembedding(**VECTORS, input=["one", "two"])


async def headers() -> Any:
    extra = {"LLMObs-User-Id": "ada", "Helicone-Session-Id": "s-1", "X-Own": "stays"}
    return await litellm.acompletion(**OPENAI, messages=HELLO, extra_headers=extra)


async def retry() -> Any:
    extra = {"X-Fake": f"status=429; times=1; retry_after=0.02; message={run}"}
    return await litellm.acompletion(**OPENAI, messages=HELLO, extra_headers=extra, max_retries=2)


async def error() -> Any:
    return await litellm.acompletion(**OPENAI, messages=HELLO, extra_headers={"X-Fake": "status=401; message=No key."})


async def broken() -> Any:
    extra = {"X-Fake": "drop_after=4"}
    parts = await litellm.acompletion(**OPENAI, messages=HELLO, extra_headers=extra, stream=True, max_retries=0)
    return [chunk async for chunk in parts]


async def cancelled() -> Any:
    extra = {"X-Fake": "chunk_delay=0.2"}

    async def read() -> None:
        async for _ in await litellm.acompletion(**OPENAI, messages=HELLO, extra_headers=extra, stream=True):
            pass

    async with asyncio.timeout(0.5):
        await read()


SCENARIOS: tuple[Callable[[], Awaitable[Any]], ...] = (
    completion,
    acompletion,
    stream,
    astream,
    anthropic,
    aanthropic,
    anthropic_stream,
    embedding,
    aembedding,
    headers,
    retry,
    error,
    broken,
    cancelled,
)


def plain(value: Any) -> Any:
    """The result without what litellm makes up anew each time: ids and dates."""
    if isinstance(value, BaseException):
        return {"type": type(value).__name__, "text": str(value)}
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key not in ("id", "created")}
    return value


def told(record: Request) -> dict[str, Any]:
    names = ("provider", "api", "operation", "request_model", "text", "outcome", "status", "error_message", "caller")
    more = ("user_id", "session_id", "input_tokens", "output_tokens", "stream", "finish_reasons")
    return {
        **{name: getattr(record, name) for name in names + more},
        "first_token": record.first_token_ns is not None,
        "attempts": [(item.status, item.outcome, item.retry_after) for item in record.attempts],
        "priced": record.cost_usd is not None,
        "after_last_chunk_ms": (record.duration_ns - (record.last_chunk_ns or 0)) / 1e6,
    }


async def each(scenario: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
    sends.clear()
    try:
        result: Any = await scenario()
    except Exception as failure:
        result = failure
    if scenario is anthropic_stream:
        # litellm neither reads this one to its end nor closes it, and its logger holds it for a while
        await asyncio.sleep(0.4)
        gc.collect()
    return {"result": plain(result), "sends": dict(sends)}


async def main() -> dict[str, Any]:
    global run
    run = "bare"
    bare = {scenario.__name__: await each(scenario) for scenario in SCENARIOS}
    run = "watched"
    watched = {}
    with capture(providers=FakeProvider().providers) as captured:
        for scenario in SCENARIOS:
            captured.clear()
            seen = await each(scenario)
            watched[scenario.__name__] = {**seen, "records": [told(record) for record in captured.requests]}
        failures = dict(captured.obs.stats().failures)
    return {"bare": bare, "watched": watched, "failures": failures, "names": [item.__name__ for item in SCENARIOS]}


if __name__ == "__main__":
    litellm.suppress_debug_info = True
    count_sends()
    answer = asyncio.run(main())
    print(json.dumps(answer, default=str))
