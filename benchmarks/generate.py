"""Made-up traffic for the benchmarks: traces of an incoming request, a tool call and a few LLM calls each.

Words are drawn from a made-up vocabulary by Zipf's law, so that compression and the full-text index behave as they
would with prose. The same seed gives the same traffic.
"""

import random
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import orjson

from asgi_llmobs.capture.annotations import Annotations
from asgi_llmobs.providers import match
from asgi_llmobs.records import Exchange, Kind, Outcome, Span
from asgi_llmobs.spool import Entry

__all__ = ["RARE", "START_NS", "Prose", "completion", "entries"]

SECOND = 1_000_000_000
START_NS = 1_782_064_000 * SECOND
SYLLABLES = (
    "an ber cal do el fi gra ho in jo ka lu mer no or pa qui ro sta te un ver wa xi yo zen tion ing ed ly "
    "con pre dis com pro ter ment al er es"
).split()
MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "o4-mini")
ROUTES = ("/chat", "/search", "/summaries/{id}", "/agents/{name}/runs")
RARE = "zyzzyva"  # in the prompt of one trace of a thousand
CHARACTERS = {"system": 700, "user": 500, "answer": 800}


class Prose:
    """An endless text."""

    def __init__(self, seed: int, words: int = 20_000) -> None:
        self.chance = random.Random(seed)
        shapes = random.Random(0)
        made = {"".join(shapes.choices(SYLLABLES, k=shapes.randint(1, 4))) for _ in range(words)}
        self.words = sorted(made, key=lambda word: (len(word) + shapes.random() * 14, word))  # frequent words are short
        self.weights = list(accumulate(1 / (rank + 3) for rank in range(len(self.words))))

    def __call__(self, characters: int) -> str:
        """About so many characters of it."""
        found = self.chance.choices(self.words, cum_weights=self.weights, k=max(1, characters // 5))
        for place in range(9, len(found), 10):
            found[place] += "."
        return " ".join(found)[:characters]


def entries(spans: int, seed: int = 1) -> Iterator[Entry]:
    """What capture hands over: at least so many finished spans and calls, trace by trace, five to a trace."""
    prose = Prose(seed)
    instructions = [prose(CHARACTERS["system"]) for _ in range(12)]
    chance = prose.chance
    for number in range(-(-spans // 5)):
        start = START_NS + number * SECOND
        about: dict[str, Any] = {
            "trace_id": f"{chance.getrandbits(128):032x}",
            "session_id": f"session-{number // 4}" if number % 3 else None,
            "user_id": f"user-{chance.randrange(500)}",
            "properties": {"environment": chance.choice(("production", "staging")), "tenant": f"t{number % 300}"},
        }
        root = f"{chance.getrandbits(64):016x}"
        messages = [
            {"role": "system", "content": chance.choice(instructions)},
            {"role": "user", "content": prose(CHARACTERS["user"]) + (f" {RARE}" if number % 1000 == 7 else "")},
        ]
        for step in range(3):
            answer = prose(CHARACTERS["answer"])
            failed = chance.random() < 0.02
            yield call(chance, messages, answer, start + step * SECOND // 4, root, failed, about)
            messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": prose(120)}]
        route = chance.choice(ROUTES)
        yield Span(
            id=f"{chance.getrandbits(64):016x}", parent_id=root, kind=Kind.TOOL, name="look_up", start_ns=start,
            duration_ns=SECOND // 10, input=prose(120), output=prose(400), **about,
        )  # fmt: skip
        yield Span(
            id=root, kind=Kind.HTTP, name=f"POST {route}", route=route, method="POST", url=route, status=200,
            start_ns=start, duration_ns=SECOND, **about,
        )  # fmt: skip


def call(
    chance: random.Random, messages: list[dict[str, str]], answer: str, start: int, parent: str, failed: bool,
    about: dict[str, Any],
) -> Exchange:  # fmt: skip
    """One finished chat call, with all that an SDK sends and a provider answers."""
    model = chance.choice(MODELS)
    sent = orjson.dumps({"messages": messages, "model": model, "temperature": 0.2, "max_tokens": 1024})
    got = orjson.dumps(refused() if failed else completion(chance, model, answer, len(sent)))
    found = match("POST", "api.openai.com", None, "/v1/chat/completions")
    return Exchange(
        id=f"{chance.getrandbits(64):016x}", parent_id=parent, match=found, method="POST",
        url="https://api.openai.com/v1/chat/completions", start_ns=start, clock_ns=start, first_start_ns=start,
        first_clock_ns=start, request_headers=list(REQUEST_HEADERS), request_chunks=[sent], request_size=len(sent),
        status=429 if failed else 200,
        response_headers=[*RESPONSE_HEADERS, (b"x-request-id", b"req_%032x" % chance.getrandbits(128))],
        response_chunks=[got], chunk_clocks=[start + SECOND // 5], chunks=1, response_size=len(got),
        headers_clock_ns=start + SECOND // 5, end_clock_ns=start + SECOND // 5 + chance.randrange(SECOND),
        outcome=Outcome.OK, eof=True, annotations=Annotations(), caller="app/answers.py:41 answer", **about,
    )  # fmt: skip


def completion(chance: random.Random, model: str, answer: str, size: int) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{chance.getrandbits(160):x}", "object": "chat.completion", "created": START_NS // SECOND,
        "model": f"{model}-2024-08-06",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": answer, "refusal": None,
                     "annotations": []}, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": size // 4, "completion_tokens": len(answer) // 4,
                  "total_tokens": size // 4 + len(answer) // 4,
                  "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                  "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0,
                                                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}},
        "service_tier": "default", "system_fingerprint": "fp_0123456789",
    }  # fmt: skip


def refused() -> dict[str, Any]:
    return {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}}


REQUEST_HEADERS = (
    (b"host", b"api.openai.com"), (b"accept-encoding", b"gzip, deflate"), (b"connection", b"keep-alive"),
    (b"accept", b"application/json"), (b"content-type", b"application/json"), (b"user-agent", b"AsyncOpenAI/Python"),
    (b"x-stainless-lang", b"python"), (b"x-stainless-os", b"Linux"), (b"x-stainless-arch", b"x64"),
    (b"x-stainless-runtime", b"CPython"), (b"x-stainless-async", b"async:asyncio"),
    (b"x-stainless-retry-count", b"0"), (b"x-stainless-read-timeout", b"600"),
    (b"authorization", b"Bearer not-a-key-of-anybody"),
)  # fmt: skip
RESPONSE_HEADERS = (
    (b"date", b"Sat, 21 Nov 2026 06:00:00 GMT"), (b"content-type", b"application/json"),
    (b"connection", b"keep-alive"), (b"openai-processing-ms", b"312"), (b"openai-version", b"2020-10-01"),
    (b"x-ratelimit-limit-requests", b"10000"), (b"x-ratelimit-limit-tokens", b"30000000"),
    (b"x-ratelimit-remaining-requests", b"9999"), (b"x-ratelimit-remaining-tokens", b"29999000"),
    (b"x-ratelimit-reset-requests", b"6ms"), (b"server", b"cloudflare"),
)  # fmt: skip
