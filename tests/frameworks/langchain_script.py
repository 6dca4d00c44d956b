"""LangChain and LangGraph."""

import asyncio
import operator
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langgraph.graph import END, START, StateGraph

from tests.frameworks.stage import SDK, Stage, play

ASKED = "Can I cancel my booking?"
WEATHER = {"messages": [("user", "What is the weather in Porto?")]}


def model(**options: Any) -> ChatOpenAI:
    return ChatOpenAI(model="gpt-4o-mini", **options)


def chain() -> Any:
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "{question}")])
    return prompt | model() | StrOutputParser()


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"mild in {city}"


@tool
def get_forecast(city: str) -> str:
    """The forecast for a city."""
    raise RuntimeError(f"no forecast for {city}")


def chat(stage: Stage) -> Any:
    return chain().invoke({"question": ASKED})


async def achat(stage: Stage) -> Any:
    return await chain().ainvoke({"question": ASKED})


def stream(stage: Stage) -> Any:
    return "".join(chain().stream({"question": ASKED}))


async def astream(stage: Stage) -> Any:
    return "".join([part async for part in chain().astream({"question": ASKED})])


async def anthropic(stage: Stage) -> Any:
    claude = ChatAnthropic(model="claude-haiku-4-5")
    whole = (await claude.ainvoke(ASKED)).text
    return [whole, "".join([part.text async for part in claude.astream(ASKED)])]


def agent(stage: Stage) -> Any:
    return create_agent(model(), [get_weather]).invoke(WEATHER)["messages"][-1].text


async def aagent(stage: Stage) -> Any:
    agent = create_agent(model(streaming=True), [get_weather], name="guide")
    return (await agent.ainvoke(WEATHER))["messages"][-1].text


def failing_tool(stage: Stage) -> Any:
    try:
        create_agent(model(), [get_forecast]).invoke({"messages": [("user", "The forecast for Porto?")]})
    except RuntimeError as error:
        return str(error)


def rag(stage: Stage) -> Any:
    store = InMemoryVectorStore(OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=False))
    store.add_documents([Document("Bookings can be cancelled for a day."), Document("Dogs travel free.")])
    prompt = ChatPromptTemplate.from_template("From {context} answer {question}")
    found = {"context": store.as_retriever(search_kwargs={"k": 1}), "question": RunnablePassthrough()}
    return (found | prompt | model() | StrOutputParser()).invoke(ASKED)


async def parallel(stage: Stage) -> Any:
    both = RunnableParallel(one=chain(), two=chain())
    found = await both.ainvoke({"question": ASKED})
    return [found["one"], found["two"], *await asyncio.gather(*(chain().ainvoke({"question": ASKED}) for _ in "ab"))]


async def graph(stage: Stage) -> Any:
    class State(TypedDict):
        said: Annotated[list[str], operator.add]

    async def ask(state: State) -> Any:
        return {"said": [(await model().ainvoke(ASKED)).text]}

    flow = StateGraph(State)
    for name in ("north", "south"):
        flow.add_node(name, ask)
        flow.add_edge(START, name)
        flow.add_edge(name, END)
    return (await flow.compile().ainvoke({"said": []}))["said"]


def retry(stage: Stage) -> Any:
    stage.fake.script(status=429, retry_after=0.01)
    return chain().invoke({"question": ASKED})


def fallback(stage: Stage) -> Any:
    stage.fake.script(status=500, when="gpt-4o-mini", times=1)
    first = ChatOpenAI(model="gpt-4o-mini", max_retries=0)
    return (first.with_fallbacks([ChatOpenAI(model="gpt-4o", max_retries=0)])).invoke(ASKED).text


def own_function(stage: Stage) -> Any:
    return (RunnableLambda(lambda question: {"question": question}) | chain()).invoke(ASKED)


def openinference(provider: Any) -> None:
    from openinference.instrumentation.langchain import LangChainInstrumentor

    LangChainInstrumentor().instrument(tracer_provider=provider)


def openllmetry(provider: Any) -> None:
    from opentelemetry.instrumentation.langchain import LangchainInstrumentor

    LangchainInstrumentor().instrument(tracer_provider=provider)


SCENARIOS = (
    chat, achat, stream, astream, anthropic, agent, aagent, failing_tool, rag, parallel, graph, retry, fallback,
    own_function,
)  # fmt: skip

if __name__ == "__main__":
    play("LangChain and LangGraph", SCENARIOS, (openinference, openllmetry, *SDK))
