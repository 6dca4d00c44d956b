"""Runs each framework's script once, in the first interpreter that has the framework."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
VARIABLE = "LLMOBS_TEST_FRAMEWORKS_PYTHON"
MISSING = f"in no interpreter of {VARIABLE} (see requirements-*.txt in tests/frameworks)"
FIND = "import importlib.util, sys; sys.exit(not all(map(importlib.util.find_spec, sys.argv[1:])))"
SETTINGS = {
    "PYTHONPATH": str(ROOT),
    "OPENAI_API_KEY": "none",
    "ANTHROPIC_API_KEY": "none",
    "LLMOBS_DEV": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true",
    "TRACELOOP_METRICS_ENABLED": "false",
    "NO_PROXY": "*",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is marked ``slow``: frameworks take seconds to be imported alone."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.sdk)


@cache
def interpreter(*modules: str) -> str | None:
    """The first that has *modules*: this one, or of those that the variable names."""
    named = os.environ.get(VARIABLE, "").split(os.pathsep)
    for python in (*filter(None, named), sys.executable):
        if subprocess.run([python, "-c", FIND, *modules], capture_output=True, check=False).returncode == 0:
            return python
    return None


@pytest.fixture(scope="session")
def run(certificate: str) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Runs a script in an interpreter that has what it needs; without one the test is skipped."""

    def run(script: str | Path, *needed: str, **settings: Any) -> subprocess.CompletedProcess[str]:
        python = interpreter(*needed)
        if python is None:
            pytest.skip(f"{', '.join(needed)}: {MISSING}")
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        environment = {**kept, **SETTINGS, "SSL_CERT_FILE": certificate, **settings.pop("env", {})}
        command = [python, "-W", "ignore", str(script)]
        options = {"capture_output": True, "text": True, "timeout": 170, "cwd": ROOT, **settings}
        return subprocess.run(command, env=environment, check=False, **options)

    yield run


@pytest.fixture(scope="session")
def played(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, Any]]:
    """What came of the script of a framework, by its module's name; once for all workers of this run of the suite."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    @cache
    def played(module: str) -> dict[str, Any]:
        kept = shared / f"{module}.json"
        with (shared / f"{module}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                name = {"agents": "openai_agents"}.get(module, module)
                done = run(HERE / f"{name}_script.py", module)
                assert done.returncode == 0, done.stderr[-4_000:]
                kept.write_text(done.stdout.splitlines()[-1], "utf-8")
        found: dict[str, Any] = json.loads(kept.read_text("utf-8"))
        return found

    return played
