"""N4, T25: real instrumentations of the OpenAI SDK, alone and all at once, give one record for one call."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.sdk

MODULES = {
    "openinference": "openinference.instrumentation.openai",
    "traceloop": "opentelemetry.instrumentation.openai",
    "openai-v2": "opentelemetry.instrumentation.openai_v2",
}


def present(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def recorded(url: str, *arguments: str) -> dict[str, Any]:
    names = arguments[0].split(",")
    missing = [name for name in names if not present(MODULES[name])]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (pip install 'asgi_llmobs[dev]')")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(Path(__file__).with_name("instrumented_script.py")), url, *arguments],
        capture_output=True,
        text=True,
        timeout=55,
        cwd=Path(__file__).parents[2],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["failures"] == {}
    return found


FEWER = [*MODULES, "openinference,openai-v2", "openai-v2,traceloop"]


@pytest.mark.parametrize("names", [*(pytest.param(each, marks=pytest.mark.slow) for each in FEWER), ",".join(MODULES)])
def test_N4_T25_one_call_one_record(names: str, fake_url: str) -> None:
    """Three calls are three requests below our span, with the instrumentation's name and the wire's facts."""
    found = recorded(fake_url, names)

    assert found["traces"] == 1
    assert len(found["spans"]) == 4, found["spans"]
    assert [span[2] for span in found["spans"]] == [None, "work", "work", "work"]
    assert [(request[1], request[2]) for request in found["requests"]] == [
        ("openai.chat", "chat"), ("openai.chat", "chat"), ("openai.embeddings", "embeddings"),
    ]  # fmt: skip
    assert all(request[3] for request in found["requests"])


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.slow
def test_what_an_instrumentation_says_by_itself(name: str, fake_url: str) -> None:
    """Where the client is not watched, its spans are the records."""
    found = recorded(fake_url, name, "only")

    assert [(request[1], request[2]) for request in found["requests"]] == [
        ("otel", "chat"), ("otel", "chat"), ("otel", "embeddings"),
    ]  # fmt: skip
    assert found["requests"][0][3]
