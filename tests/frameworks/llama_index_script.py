"""LlamaIndex."""

import asyncio
from typing import Any

from llama_index.core import Document, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI

from tests.frameworks.stage import SDK, Stage, play

ASKED = "Can I cancel my booking?"
HELLO = [ChatMessage(role="user", content=ASKED)]


def model(**options: Any) -> OpenAI:
    return OpenAI(model="gpt-4o-mini", **options)


def chat(stage: Stage) -> Any:
    return model().chat(HELLO).message.content


async def achat(stage: Stage) -> Any:
    return (await model().achat(HELLO)).message.content


def complete(stage: Stage) -> Any:
    return model().complete(ASKED).text


def stream(stage: Stage) -> Any:
    return "".join(part.delta or "" for part in model().stream_chat(HELLO))


async def astream(stage: Stage) -> Any:
    return "".join([part.delta or "" async for part in await model().astream_chat(HELLO)])


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"mild in {city}"


def get_forecast(city: str) -> str:
    """The forecast for a city."""
    raise RuntimeError(f"no forecast for {city}")


async def agent(stage: Stage) -> Any:
    agent = FunctionAgent(tools=[FunctionTool.from_defaults(get_weather)], llm=model(), name="guide")
    return str(await agent.run("What is the weather in Porto?"))


async def failing_tool(stage: Stage) -> Any:
    agent = FunctionAgent(tools=[FunctionTool.from_defaults(get_forecast)], llm=model(), streaming=False)
    return str(await agent.run("The forecast for Porto?"))


def index() -> VectorStoreIndex:
    documents = [
        Document(text="Bookings can be cancelled for a day.", doc_id="1"),
        Document(text="Dogs travel free.", doc_id="2"),
    ]
    return VectorStoreIndex.from_documents(documents, embed_model=OpenAIEmbedding(model="text-embedding-3-small"))


def rag(stage: Stage) -> Any:
    return str(index().as_query_engine(llm=model(), similarity_top_k=1).query(ASKED))


async def arag(stage: Stage) -> Any:
    return str(await index().as_query_engine(llm=model(), similarity_top_k=1).aquery(ASKED))


async def parallel(stage: Stage) -> Any:
    found = await asyncio.gather(*(model().achat(HELLO) for _ in "abc"))
    return [answer.message.content for answer in found]


def retry(stage: Stage) -> Any:
    stage.fake.script(status=429, retry_after=0.01)
    return model().chat(HELLO).message.content


def openinference(provider: Any) -> None:
    from openinference.instrumentation.llama_index import LlamaIndexInstrumentor

    LlamaIndexInstrumentor().instrument(tracer_provider=provider)


def openllmetry(provider: Any) -> None:
    from opentelemetry.instrumentation.llamaindex import LlamaIndexInstrumentor

    LlamaIndexInstrumentor().instrument(tracer_provider=provider)


SCENARIOS = (chat, achat, complete, stream, astream, agent, failing_tool, rag, arag, parallel, retry)

if __name__ == "__main__":
    play("LlamaIndex", SCENARIOS, (openinference, openllmetry, *SDK))
