"""instructor."""

import asyncio
from typing import Any

import instructor
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, field_validator

from tests.frameworks.stage import SDK, Stage, play

ASKED: Any = [{"role": "user", "content": "The answer for Porto?"}]


class Answer(BaseModel):
    city: str


def ask(client: Any, **options: Any) -> Any:
    return client.chat.completions.create(
        **{"model": "gpt-4o-mini", "messages": ASKED, "response_model": Answer, "max_retries": 1, **options}
    )


def chat(stage: Stage) -> Any:
    return ask(instructor.from_openai(OpenAI())).model_dump()


async def achat(stage: Stage) -> Any:
    return (await ask(instructor.from_openai(AsyncOpenAI()))).model_dump()


def stream(stage: Stage) -> Any:
    client = instructor.from_openai(OpenAI())
    return [part.model_dump() for part in client.chat.completions.create_partial(
        model="gpt-4o-mini", messages=ASKED, response_model=Answer
    )][-1]  # fmt: skip


def json_mode(stage: Stage) -> Any:
    stage.fake.script(text='{"city": "Porto"}')
    return ask(instructor.from_openai(OpenAI(), mode=instructor.Mode.JSON)).model_dump()


def asked_again(stage: Stage) -> Any:
    """An answer that does not fit is asked for again, with what was wrong."""
    stage.fake.script(tool_calls=[("Answer", {"city": 1})])

    class Strict(Answer):
        @field_validator("city")
        @classmethod
        def known(cls, value: str) -> str:
            if value == "Nowhere":
                raise ValueError("no such city")
            return value

    return ask(instructor.from_openai(OpenAI()), response_model=Strict, max_retries=2).model_dump()


async def parallel(stage: Stage) -> Any:
    client = instructor.from_openai(AsyncOpenAI())
    return [found.model_dump() for found in await asyncio.gather(*(ask(client) for _ in "abc"))]


def retry(stage: Stage) -> Any:
    stage.fake.script(status=429, retry_after=0.01)
    return ask(instructor.from_openai(OpenAI())).model_dump()


SCENARIOS = (chat, achat, stream, json_mode, asked_again, parallel, retry)

if __name__ == "__main__":
    # behind any instrumentation of the SDK it takes the sync client for an async one
    play("instructor", SCENARIOS, SDK, broken=(stream,))
