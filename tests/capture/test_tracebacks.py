"""Tracebacks of failed spans and requests: where it happened, and nothing that variables held."""

import asyncio
import sys
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from asgi_llmobs import LLMObsMiddleware, observe, span
from asgi_llmobs.capture.tracebacks import STACKTRACE, traceback_of
from asgi_llmobs.testing import Captured, capture
from tests.calling import ask_sync

KEY = "sk-" + "a1B2c3D4" * 6


@observe(kind="tool")
def look_up(city: str) -> str:
    password = "of-a-variable"
    return {"Lisbon": password}[city]


def raised(call: Any) -> BaseException:
    """What *call* raises."""
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def trace_of(llmobs: Captured, name: str) -> str | None:
    (found,) = (record for record in llmobs.spans if record.name == name)
    return found.attributes.get(STACKTRACE)


def test_a_failed_span(llmobs: Captured) -> None:
    """Each span that the exception leaves has it: file, line and code, none of our frames, no values."""
    with pytest.raises(KeyError), span("around"):
        look_up("Porto")

    found = trace_of(llmobs, "look_up")
    assert found is not None
    assert found.startswith("Traceback (most recent call last):") and found.endswith("KeyError: 'Porto'")
    assert 'return {"Lisbon": password}[city]' in found and "in look_up" in found
    assert "of-a-variable" not in found.replace('password = "of-a-variable"', "") and "decorators.py" not in found
    assert "in test_a_failed_span" in (trace_of(llmobs, "around") or "")


def test_what_led_to_it() -> None:
    """Causes and what was being handled come first, as Python prints them; groups show what is in them."""

    def nested() -> None:
        try:
            look_up("Porto")
        except KeyError as error:
            raise ValueError("no beds") from error

    def handling() -> None:
        try:
            nested()
        except ValueError:
            raise RuntimeError("closed")  # noqa: B904 - as apps do

    found = traceback_of(raised(handling)) or ""
    order = ["KeyError: 'Porto'", "direct cause", "ValueError: no beds", "During handling", "RuntimeError: closed"]
    assert [found.index(words) for words in order] == sorted(found.index(words) for words in order)

    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(look_up, "Faro"))

    assert "  | KeyError: 'Faro'" in (traceback_of(raised(lambda: asyncio.run(together()))) or "")


def test_bounds() -> None:
    """Neither recursion, nor long chains and messages, nor exceptions that know each other make it long."""

    def deep(level: int) -> None:
        deep(level + 1)

    def chained(left: int) -> None:
        try:
            if left:
                chained(left - 1)
            raise ValueError("x" * 5_000)
        except ValueError:
            raise ValueError("y" * 5_000)  # noqa: B904 - as apps do

    class Mute(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    recursion = traceback_of(raised(lambda: deep(0))) or ""
    assert "frames before]" in recursion and recursion.count("File") == 20
    assert len(traceback_of(raised(lambda: chained(50))) or "") == 8_000
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert (traceback_of(one) or "").endswith("ValueError: one")
    assert (traceback_of(Mute()) or "").startswith("Mute: [ZeroDivisionError")
    groups = ExceptionGroup("0", [ValueError("in it")] * 9)
    for level in range(60):
        groups = ExceptionGroup(str(level), [groups] * 9)
    assert "ExceptionGroup: 59" in (traceback_of(groups) or "")


def test_not_of_what_was_cancelled_nor_without_content() -> None:
    """What the app ended is no failure; with ``capture="metadata"`` no line of code is kept."""
    with capture() as llmobs, pytest.raises(SystemExit), span("stopped"):
        sys.exit()
    assert trace_of(llmobs, "stopped") is None
    with capture(capture="metadata") as llmobs, pytest.raises(KeyError):
        look_up("Porto")
    assert trace_of(llmobs, "look_up") is None


def test_secrets_are_taken_out(llmobs: Captured) -> None:
    """Of a traceback as of every text."""
    with pytest.raises(ValueError, match="sk-"), span("refused"):
        raise ValueError(f"{KEY} is not valid")
    found = trace_of(llmobs, "refused") or ""
    assert "is not valid" in found and KEY not in found


def test_a_failed_request(llmobs: Captured) -> None:
    """The root has the traceback of what the app raised; the exception itself passes as it is."""

    def answer(request: Request) -> PlainTextResponse:
        ask_sync()
        return PlainTextResponse(look_up(request.query_params["city"]))

    app = Starlette(routes=[Route("/", answer)])
    app.add_middleware(LLMObsMiddleware, obs=llmobs.obs)
    with TestClient(app) as client:
        with pytest.raises(KeyError):
            client.get("/?city=Porto")
        assert client.get("/?city=Lisbon").status_code == 200

    failed, fine = llmobs.incoming
    assert "in answer\n    return PlainTextResponse(look_up(" in failed.attributes[STACKTRACE]
    assert STACKTRACE not in fine.attributes
