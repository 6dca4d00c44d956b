"""Wayfarer, a travel assistant: a chat, an agent with tools, and answers from a guide.

Read it from top to bottom: it is the tutorial. Start it with ``llmobs demo``, or as any FastAPI app::

    LLMOBS_DEV=1 uvicorn example_app.app:app

Without ``OPENAI_API_KEY`` and ``ANTHROPIC_API_KEY`` a fake provider answers, inside this process.
"""

import asyncio
import base64
import json
import os
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from operator import mul
from typing import Any

import anthropic
import openai
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from asgi_llmobs import LLMObsMiddleware, annotate, current_trace_id, observe, score
from asgi_llmobs.testing import FakeProvider

CHAT_MODEL = "gpt-4.1-mini"
AGENT_MODEL = "gpt-5-mini"
EMBEDDING_MODEL = "text-embedding-3-small"
ANSWER_MODEL = "claude-haiku-4-5"
SUMMARY_MODEL = "claude-sonnet-4-6"
PICTURE_MODEL = "gpt-4.1"
PLANS = {"ada": "pro", "grace": "pro"}  # everybody else travels free

# with a key in the environment the real provider is asked, else this one
fake = FakeProvider(delay=0.12, first_token_delay=0.18, chunk_delay=0.015)


def settings(key: str, url: str) -> dict[str, Any]:
    """How an SDK finds its provider: by itself where there is a key, else at the fake one's address."""
    return {} if os.environ.get(key) else {"api_key": "none", "base_url": url}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Make the two SDK clients, as any app does."""
    with ExitStack() as stack:
        has_keys = all(os.environ.get(name) for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"))
        url = "" if has_keys else stack.enter_context(fake.serve())
        app.state.openai = openai.AsyncOpenAI(**settings("OPENAI_API_KEY", f"{url}/v1"))
        app.state.anthropic = anthropic.AsyncAnthropic(**settings("ANTHROPIC_API_KEY", url))
        app.state.guide = None
        yield
        await app.state.openai.close()
        await app.state.anthropic.close()


app = FastAPI(title="Wayfarer", lifespan=lifespan)

# 1. The one line. From here on every LLM call is recorded and shown at /_llmobs.
app.add_middleware(LLMObsMiddleware)


class Turn(BaseModel):
    """What a traveller sends."""

    message: str
    user: str
    session: str
    model: str = CHAT_MODEL


@app.exception_handler(openai.APIError)
@app.exception_handler(anthropic.APIError)
async def provider_failed(request: Request, error: Exception) -> JSONResponse:
    """Exceptions of the SDKs are what they always were: handle them as you always did."""
    return JSONResponse({"detail": "Our assistant is not available right now."}, status_code=502)


# 2. A chat that streams. annotate() says whose it is and which conversation it belongs to.

SYSTEM = {
    "role": "system",
    "content": "You are Wayfarer, the travel assistant of a small agency. Answer in two or three friendly sentences. "
    "Never promise a price that is not in the conversation. Offer to plan the trip when it fits.",
}
conversations: dict[str, list[dict[str, str]]] = {}


@app.post("/chat")
async def chat(turn: Turn, request: Request) -> StreamingResponse:
    """Answer a message word by word."""
    plan = PLANS.get(turn.user, "free")
    annotate(session=turn.session, session_name=f"Trip of {turn.user}", user=turn.user, feature="chat", plan=plan)
    history = conversations.setdefault(turn.session, [SYSTEM])
    history.append({"role": "user", "content": turn.message})
    stream = await request.app.state.openai.chat.completions.create(
        model=turn.model,
        messages=history,
        temperature=0.4,
        stream=True,
        stream_options={"include_usage": True},
        # a header says the same as annotate(), for this one call; it is taken out before the provider sees it
        extra_headers={"LLMObs-Property-Turn": str(len(history) // 2)},
    )

    async def words() -> AsyncIterator[str]:
        said = ""
        async with stream:  # a client that leaves early closes the stream: the call is shown as cancelled
            async for chunk in stream:
                text = (chunk.choices[0].delta.content or "") if chunk.choices else ""
                said += text
                yield text
        history.append({"role": "assistant", "content": said})

    # with this id the traveller can say later what the answer was worth: see /feedback
    headers = {"x-trace-id": current_trace_id() or ""}
    return StreamingResponse(words(), media_type="text/plain; charset=utf-8", headers=headers)


# 3. An agent. observe() makes a function a node of the trace; calls made inside it hang below it.


@observe(kind="tool")
async def get_weather(city: str) -> dict[str, str]:
    """The forecast for a city."""
    await asyncio.sleep(0.08)
    return {"city": city, "forecast": "mild, 14 °C, showers on Saturday afternoon"}


@observe(kind="tool")
async def find_flights(origin: str, destination: str, date: str) -> dict[str, str]:
    """Direct flights between two cities."""
    await asyncio.sleep(0.15)
    if destination == "Kyoto":
        raise LookupError("Kyoto has no airport: try Osaka")
    return {"flight": f"07:40 from {origin} to {destination} on {date}", "fare": "€139"}


@observe(kind="tool")
async def find_hotel(city: str, nights: int) -> dict[str, str]:
    """A hotel for some nights."""
    await asyncio.sleep(0.11)
    return {"hotel": f"Casa do Rio, {city}", "price": f"€{112 * nights} for {nights} nights"}


TOOLS = {tool.__name__: tool for tool in (get_weather, find_flights, find_hotel)}


def described(name: str, **parameters: str) -> dict[str, Any]:
    """A tool as the provider wants to have it described."""
    properties = {key: {"type": kind} for key, kind in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    function = {"name": name, "description": TOOLS[name].__doc__, "parameters": schema}
    return {"type": "function", "function": function}


TOOLBOX = [
    described("get_weather", city="string"),
    described("find_flights", origin="string", destination="string", date="string"),
    described("find_hotel", city="string", nights="integer"),
]


async def run_tool(call: Any) -> dict[str, str]:
    """Run what the model asked for; a failure is an answer too."""
    try:
        result: Any = await TOOLS[call.function.name](**json.loads(call.function.arguments))
    except LookupError as error:
        result = {"error": str(error)}
    return {"role": "tool", "tool_call_id": call.id, "content": json.dumps(result, ensure_ascii=False)}


@observe(kind="agent", name="trip planner")
async def plan_trip(client: openai.AsyncOpenAI, goal: str) -> str:
    """Ask the model, run the tools that it wants side by side, until it has an answer."""
    messages: list[Any] = [
        {"role": "system", "content": "You plan trips. Use the tools, then answer in one short paragraph."},
        {"role": "user", "content": goal},
    ]
    for _ in range(4):
        answer = await client.chat.completions.create(
            model=AGENT_MODEL,
            messages=messages,
            tools=TOOLBOX,  # type: ignore[arg-type]
        )
        message = answer.choices[0].message
        if not message.tool_calls:
            return message.content or ""
        messages.append(message.model_dump(exclude_none=True))
        messages += await asyncio.gather(*(run_tool(call) for call in message.tool_calls))
    return "I could not finish the plan."


@app.post("/agent")
async def agent(turn: Turn, request: Request) -> dict[str, str]:
    """Plan a trip with tools."""
    annotate(session=turn.session, user=turn.user, feature="planner")
    return {"answer": await plan_trip(request.app.state.openai, turn.message)}


# 4. Answers from a guide (RAG): embeddings of one provider, the answer of another, one trace.

GUIDE = [
    "Cabin baggage: one bag of up to 8 kg, 55 × 40 × 23 cm, is included in every fare.",
    "Checked luggage: 23 kg cost €35 online and €50 at the airport.",
    "Cancellation: free until 48 hours before departure, then half of the fare is refunded.",
    "Pets: small dogs and cats travel in the cabin for €40 when they are booked by phone.",
    "Visa: citizens of the EU need none; from the US and Canada 90 days in any 180 are free.",
]
indexing = asyncio.Lock()


async def vectors_of(client: openai.AsyncOpenAI, texts: list[str]) -> list[list[float]]:
    """One vector for each text."""
    answer = await client.embeddings.create(model=EMBEDDING_MODEL, input=texts, dimensions=256)
    return [item.embedding for item in answer.data]


@observe(kind="retriever", name="guide")
async def search(state: Any, question: str, top: int = 2) -> list[str]:
    """The passages of the guide that are nearest to the question."""
    async with indexing:  # two first questions at once need one index
        if state.guide is None:
            state.guide = await vectors_of(state.openai, GUIDE)
    (asked,) = await vectors_of(state.openai, [question])
    scored = [(sum(map(mul, asked, vector)), text) for vector, text in zip(state.guide, GUIDE, strict=True)]
    return [text for _, text in sorted(scored, reverse=True)[:top]]


@app.post("/ask")
async def ask(turn: Turn, request: Request) -> dict[str, Any]:
    """Answer a question from the guide, with its sources."""
    annotate(session=turn.session, user=turn.user, feature="guide")
    passages = await search(request.app.state, turn.message)
    sources = "\n".join(f"[{number}] {text}" for number, text in enumerate(passages, start=1))
    answer = await request.app.state.anthropic.messages.create(
        model=ANSWER_MODEL,
        max_tokens=300,
        system="Answer from the sources only and name their numbers.",
        messages=[{"role": "user", "content": f"{sources}\n\nQuestion: {turn.message}"}],
    )
    text = answer.content[0].text
    # 5. What a program thinks of it, at once: how much of the answer stands in the sources.
    said, known = words_of(text), words_of(sources)
    score("grounded", round(len(said & known) / max(1, len(said)), 2), author="word overlap")
    return {"answer": text, "sources": passages}


def words_of(text: str) -> set[str]:
    """The words that carry something."""
    return {word.strip(".,:;!?[]()").lower() for word in text.split() if len(word) > 3}


class Feedback(BaseModel):
    """What a traveller thinks of an answer."""

    trace: str
    helpful: bool
    why: str | None = None


@app.post("/feedback")
async def feedback(given: Feedback) -> dict[str, str]:
    """And what a person thinks, later: by the id of the trace."""
    score("helpful", given.helpful, trace=given.trace, comment=given.why, author="traveller")
    return {"thanks": "noted"}


# 6. A long beginning that is always the same: marked once, the provider's cache reads it for a tenth of the price.

STYLE = "You write the summary of a trip for the file of the agency.\n" + "\n".join(
    f"{number}. {rule}"
    for number, rule in enumerate(
        (
            "Name the traveller, the town and the dates before anything else, and leave out what was only considered.",
            "Write amounts in euros with two digits, and never one that is not in the conversation.",
            "Say what is booked, what is held and until when, and what the traveller still has to do.",
            "Quote wishes about food, rooms and seats word for word: whoever books reads nothing else.",
            "Keep doubts of the traveller; they decide whether somebody calls.",
            "No greeting, no emphasis, no advice; one paragraph, in the past tense.",
        )
        * 8,
        start=1,
    )
)


@app.post("/summary")
async def summary(turn: Turn, request: Request) -> dict[str, Any]:
    """A trip in forty tokens; what is longer is cut off, and the admin says so."""
    annotate(session=turn.session, user=turn.user, feature="summary", plan=PLANS.get(turn.user, "free"))
    answer = await request.app.state.anthropic.messages.create(
        model=SUMMARY_MODEL,
        max_tokens=40,
        system=[{"type": "text", "text": STYLE, "cache_control": {"type": "ephemeral"}}],
        messages=[{"role": "user", "content": turn.message}],
    )
    score("length", "cut off" if answer.stop_reason == "max_tokens" else "whole", author="summary")
    return {"summary": answer.content[0].text}


# 7. Pictures go along as they always do. The admin shows them small; bodies keep what they were, not a copy each time.


def drawn(width: int = 96, height: int = 64) -> str:
    """A picture of a sunset over the sea, as an address with the data in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b""
    for y in range(height):
        sea = y > height * 0.6
        rows += b"\0"
        for x in range(width):
            sun = (x - width / 2) ** 2 + (y - height * 0.45) ** 2 < (height * 0.22) ** 2
            rows += bytes((255, 214, 120) if sun and not sea else (24, 60 + y, 110) if sea else (235, 90 + y * 2, 80))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(png).decode()


@app.post("/photo")
async def photo(turn: Turn, request: Request) -> dict[str, str]:
    """Where was this taken?"""
    annotate(session=turn.session, user=turn.user, feature="photo", plan=PLANS.get(turn.user, "free"))
    content: Any = [
        {"type": "text", "text": turn.message},
        {"type": "image_url", "image_url": {"url": drawn(), "detail": "low"}},
    ]
    answer = await request.app.state.openai.chat.completions.create(
        model=PICTURE_MODEL, messages=[{"role": "user", "content": content}], temperature=0.2
    )
    return {"answer": answer.choices[0].message.content or ""}


@app.get("/")
async def index() -> dict[str, str]:
    """Where to go from here."""
    return {"app": "Wayfarer", "docs": "/docs", "admin": "/_llmobs/"}
