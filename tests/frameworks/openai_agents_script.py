"""The OpenAI Agents SDK."""

import asyncio
from typing import Any

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

from tests.frameworks.stage import SDK, Stage, play

ASKED = "Can I cancel my booking?"


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"mild in {city}"


@function_tool(failure_error_function=None)
def get_forecast(city: str) -> str:
    """The forecast for a city."""
    raise RuntimeError(f"no forecast for {city}")


@function_tool
async def find_terms(question: str) -> str:
    """The terms of a booking."""
    found = await AsyncOpenAI().embeddings.create(model="text-embedding-3-small", input=question)
    return f"one of {len(found.data)}: bookings can be cancelled for a day"


def guide(**options: Any) -> Any:
    return Agent(name="guide", model="gpt-4o-mini", instructions="Be brief.", **options)


def chat(stage: Stage) -> Any:
    return Runner.run_sync(guide(), ASKED).final_output


async def achat(stage: Stage) -> Any:
    return (await Runner.run(guide(), ASKED)).final_output


async def completions(stage: Stage) -> Any:
    agent = Agent(name="guide", model=OpenAIChatCompletionsModel("gpt-4o-mini", AsyncOpenAI()))
    return (await Runner.run(agent, ASKED)).final_output


async def astream(stage: Stage) -> Any:
    run = Runner.run_streamed(guide(), ASKED)
    kinds = [event.type async for event in run.stream_events()]
    return [run.final_output, len(kinds)]


async def agent(stage: Stage) -> Any:
    return (await Runner.run(guide(tools=[get_weather]), "What is the weather in Porto?")).final_output


async def handoff(stage: Stage) -> Any:
    other = Agent(name="weatherman", model="gpt-4o-mini", tools=[get_weather])
    return (await Runner.run(guide(handoffs=[other]), "Transfer me to the weatherman")).final_output


async def failing_tool(stage: Stage) -> Any:
    try:
        await Runner.run(guide(tools=[get_forecast]), "The forecast for Porto?")
    except Exception as error:
        return str(error)


async def rag(stage: Stage) -> Any:
    return (await Runner.run(guide(tools=[find_terms]), "Which terms are there?")).final_output


async def parallel(stage: Stage) -> Any:
    return [run.final_output for run in await asyncio.gather(*(Runner.run(guide(), ASKED) for _ in "abc"))]


async def retry(stage: Stage) -> Any:
    stage.fake.script(status=429, retry_after=0.01)
    return (await Runner.run(guide(), ASKED)).final_output


def openinference(provider: Any) -> None:
    from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

    OpenAIAgentsInstrumentor().instrument(tracer_provider=provider)


def openllmetry(provider: Any) -> None:
    from opentelemetry.instrumentation.openai_agents import OpenAIAgentsInstrumentor

    OpenAIAgentsInstrumentor().instrument(tracer_provider=provider)


def before(way: str) -> None:
    """As it comes it uploads its traces: it may do so only after the documented line, which is to prevent it."""
    set_tracing_disabled(way in ("bare", "captured"))


SCENARIOS = (chat, achat, completions, astream, agent, handoff, failing_tool, rag, parallel, retry)

if __name__ == "__main__":
    play("OpenAI Agents SDK", SCENARIOS, (openinference, openllmetry, *SDK), before=before)
