"""litellm: no set-up; its own callback for OpenTelemetry may be on besides."""

import asyncio
from typing import Any

import litellm

from tests.frameworks.stage import SDK, Stage, play

ASKED: Any = [{"role": "user", "content": "Can I cancel my booking?"}]
WEATHER: Any = [{"role": "user", "content": "What is the weather in Porto?"}]
TOOL = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
OPENAI: Any = {"model": "openai/gpt-4o-mini"}
ANTHROPIC: Any = {"model": "anthropic/claude-haiku-4-5", "max_tokens": 500}


def said(answer: Any) -> Any:
    return answer.choices[0].message.content


def joined(parts: Any) -> str:
    return "".join(part.choices[0].delta.content or "" for part in parts)


def chat(stage: Stage) -> Any:
    return said(litellm.completion(**OPENAI, messages=ASKED))


async def achat(stage: Stage) -> Any:
    return said(await litellm.acompletion(**OPENAI, messages=ASKED))


def stream(stage: Stage) -> Any:
    return joined(litellm.completion(**OPENAI, messages=ASKED, stream=True))


async def astream(stage: Stage) -> Any:
    return joined([part async for part in await litellm.acompletion(**OPENAI, messages=ASKED, stream=True)])


async def anthropic(stage: Stage) -> Any:
    whole = said(await litellm.acompletion(**ANTHROPIC, messages=ASKED))
    # it neither reads this one to its end nor closes it
    return [whole, joined([part async for part in await litellm.acompletion(**ANTHROPIC, messages=ASKED, stream=True)])]


async def agent(stage: Stage) -> Any:
    tools = [{"type": "function", "function": TOOL}]
    first = (await litellm.acompletion(**OPENAI, messages=WEATHER, tools=tools)).choices[0].message
    answered = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "mild"}
    return said(await litellm.acompletion(**OPENAI, messages=[*WEATHER, first.model_dump(), answered], tools=tools))


async def rag(stage: Stage) -> Any:
    await litellm.aembedding(model="openai/text-embedding-3-small", input=["one", "two"])
    return said(await litellm.acompletion(**OPENAI, messages=ASKED))


async def parallel(stage: Stage) -> Any:
    return [said(one) for one in await asyncio.gather(*(litellm.acompletion(**OPENAI, messages=ASKED) for _ in "abc"))]


def retry(stage: Stage) -> Any:
    stage.fake.script(status=429, retry_after=0.01)
    return said(litellm.completion(**OPENAI, messages=ASKED, max_retries=2))


async def fallback(stage: Stage) -> Any:
    stage.fake.script(status=500, when="gpt-4o-mini", times=1)
    options: Any = {"max_retries": 0, "fallbacks": ["openai/gpt-4o"]}
    return said(await litellm.acompletion(**OPENAI, messages=ASKED, **options))


def openinference(provider: Any) -> None:
    from openinference.instrumentation.litellm import LiteLLMInstrumentor

    LiteLLMInstrumentor().instrument(tracer_provider=provider)


SCENARIOS = (chat, achat, stream, astream, anthropic, agent, rag, parallel, retry, fallback)

if __name__ == "__main__":
    litellm.suppress_debug_info = True
    play("litellm", SCENARIOS, (openinference, *SDK), settle=0.2)
