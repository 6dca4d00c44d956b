"""pydantic-ai."""

import asyncio
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, Embedder
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel

from tests.frameworks.stage import SDK, Stage, play

ASKED = "Can I cancel my booking?"


class Answer(BaseModel):
    city: str


def guide(**options: Any) -> Any:
    return Agent(OpenAIChatModel("gpt-4o-mini"), name="guide", **options)


def chat(stage: Stage) -> Any:
    return guide().run_sync(ASKED).output


async def achat(stage: Stage) -> Any:
    return (await guide().run(ASKED)).output


async def responses(stage: Stage) -> Any:
    return (await Agent(OpenAIResponsesModel("gpt-4o-mini")).run(ASKED)).output


async def astream(stage: Stage) -> Any:
    async with guide().run_stream(ASKED) as run:
        return "".join([part async for part in run.stream_text(delta=True)])


async def agent(stage: Stage) -> Any:
    def get_weather(city: str) -> str:
        """The weather in a city."""
        return f"mild in {city}"

    return (await guide(tools=[get_weather]).run("What is the weather in Porto?")).output


async def failing_tool(stage: Stage) -> Any:
    def get_forecast(city: str) -> str:
        """The forecast for a city."""
        raise RuntimeError(f"no forecast for {city}")

    try:
        await guide(tools=[get_forecast]).run("The forecast for Porto?")
    except RuntimeError as error:
        return str(error)


async def rag(stage: Stage) -> Any:
    vectors = Embedder("openai:text-embedding-3-small")

    async def find_terms(question: str) -> str:
        """The terms of a booking."""
        found = await vectors.embed_query(question)
        return f"one of {len(found.embeddings)}: bookings can be cancelled for a day"

    return (await guide(tools=[find_terms]).run("Which terms are there?")).output


async def structured(stage: Stage) -> Any:
    return (await guide(output_type=Answer).run("The answer for Porto?")).output.model_dump()


async def parallel(stage: Stage) -> Any:
    return [run.output for run in await asyncio.gather(*(guide().run(ASKED) for _ in "abc"))]


async def retry(stage: Stage) -> Any:
    stage.fake.script(status=429, retry_after=0.01)
    return (await guide().run(ASKED)).output


SCENARIOS = (
    chat, achat, responses, astream, agent, failing_tool, rag, structured, parallel, retry,
)  # fmt: skip

if __name__ == "__main__":
    play("pydantic-ai", SCENARIOS, SDK)
