"""An afternoon at the travel agency in a few seconds: what ``llmobs demo`` sends to the example app."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

__all__ = ["drive"]

Say = Callable[[str], None]


class Traveller:
    """One user with one conversation."""

    def __init__(self, client: httpx.AsyncClient, user: str, session: str) -> None:
        self.client = client
        self.turn = {"user": user, "session": session}

    async def chat(
        self, *messages: str, model: str | None = None, leave_after: int | None = None, liked: str = ""
    ) -> None:
        """Say one thing after the other; with *leave_after* close the connection after so many pieces.

        *liked* has a ``+`` or a ``-`` for each answer that is judged, in their order.
        """
        for number, message in enumerate(messages):
            body = {**self.turn, "message": message, **({"model": model} if model else {})}
            async with self.client.stream("POST", "/chat", json=body) as response:
                pieces = 0
                async for _ in response.aiter_text():
                    pieces += 1
                    if pieces == leave_after:
                        break
            if number < len(liked):
                why = None if liked[number] == "+" else "It did not say what it costs."
                said = {"trace": response.headers["x-trace-id"], "helpful": liked[number] == "+", "why": why}
                await self.client.post("/feedback", json=said)

    async def ask(self, path: str, message: str) -> None:
        """One request with one answer."""
        await self.client.post(path, json={**self.turn, "message": message})


async def drive(url: str, fake: Any | None, say: Say) -> None:
    """Send the traffic.

    Args:
        url: Address of the running example app.
        fake: Its fake provider, told to fail now and then; ``None`` where the real providers answer, which are then
            spared the failures.
        say: Called with a line about each step.
    """
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:

        def traveller(name: str, trip: str) -> Traveller:
            return Traveller(client, name, f"{name}-{trip}")

        async def step(text: str, *work: Awaitable[None]) -> None:
            say(text)
            try:
                await asyncio.gather(*work)
            except httpx.HTTPError as error:
                say(f"failed: {error!r}")

        await step(
            "three travellers chat, several turns each",
            traveller("ada", "lisbon").chat(
                "I have a free weekend in Lisbon. What should I plan?",
                "We bring two children. Does that change the itinerary?",
                "And what would the plan cost us, museums included?",
                liked="++-",
            ),
            traveller("grace", "porto").chat(
                "Which hotel would you pick, quiet and near the river?",
                "When can we check-in to the room?",
                liked="+",
            ),
            traveller("linus", "berlin").chat("My flight has a delay of four hours. What am I owed?", liked="-"),
        )
        await step(
            "an agent plans trips with parallel tools",
            traveller("ada", "lisbon").ask("/agent", "Find flights from Berlin to Lisbon, a hotel and the weather"),
            traveller("ken", "plan").ask("/agent", "Find flights from Vienna to Kyoto and the weather there"),
        )
        await step(
            "questions are answered from the guide",
            traveller("grace", "guide").ask("/ask", "How big may my cabin baggage be?"),
            traveller("ken", "guide").ask("/ask", "What is refunded after a cancellation?"),
        )
        await step(
            "the same question, word for word, from three people",
            *(
                traveller(name, "faq").ask("/ask", "May my dog travel in the cabin?")
                for name in ("ada", "linus", "ken")
            ),
        )
        await step(
            "trips are summed up: a long beginning from the cache, an answer that is cut off",
            traveller("ada", "lisbon").ask("/summary", "The weekend plan: days in Lisbon with two children"),
        )
        for name, trip in (("grace", "porto"), ("linus", "berlin")):
            await step(f"the trip of {name} too", traveller(name, trip).ask("/summary", f"A short note on {trip}"))
        await step(
            "somebody shows a photo", traveller("grace", "porto").ask("/photo", "Which beach is in this picture?")
        )
        await step("somebody leaves in mid-answer", traveller("linus", "berlin").chat("Plan my days", leave_after=2))
        if fake is not None:
            await _failures(fake, traveller, step)


async def _failures(
    fake: Any, traveller: Callable[[str, str], Traveller], step: Callable[..., Awaitable[None]]
) -> None:
    fake.script(when="invoice", status=429, retry_after=0.4)
    await step("the provider says 429, the SDK tries again", traveller("grace", "billing").chat("Resend the invoice"))
    fake.script(when="passport", status=500, times=3)
    await step("the provider fails for good", traveller("ada", "border").chat("Do I need a passport?"))
    await step(
        "a model without a price", traveller("ken", "beta").chat("Is a raincoat needed?", model="wayfarer-travel-ft-7")
    )
