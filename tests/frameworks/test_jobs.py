"""Scripts and jobs as docs/scripts.md shows them, run for real: what was called is stored, however the process ends."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from asgi_llmobs import LLMObs
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.traces import TraceTree, get_trace, list_traces
from tests.frameworks.conftest import MISSING, ROOT, SETTINGS, interpreter
from tests.processes import free_port

PAGE = ROOT / "docs" / "scripts.md"
pytestmark = pytest.mark.timeout(150)
Run = Callable[..., subprocess.CompletedProcess[str]]
CALLED = ["summarize", "chat gpt-4o-mini"]


def snippet(heading: str) -> str:
    part = PAGE.read_text("utf-8").split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found = re.search(r"^```python\n(.*?)^```$", part, re.M | re.S)
    assert found is not None
    return found.group(1)


@pytest.fixture
def settings(fake_url: str, certificate: str) -> dict[str, str]:
    return {**os.environ, **SETTINGS, "OPENAI_BASE_URL": f"{fake_url}/v1", "SSL_CERT_FILE": certificate}


def stored(folder: Path, name: str) -> list[TraceTree]:
    """The traces of a database, after a process that came later has taken over what was left."""
    store = f"sqlite:///{folder}/{name}"
    obs = LLMObs(store)
    obs.start()
    deadline = time.monotonic() + 30
    found: list[TraceTree] = []
    before: Any = None
    while (not found or found != before) and time.monotonic() < deadline:
        time.sleep(0.5)
        obs.flush()
        rows = list_traces(obs.database, Filter(project="default")).rows
        trees = [get_trace(obs.database, row.trace_id, project="default") for row in rows]
        before, found = found, [tree for tree in trees if tree is not None]
    obs.close()
    return found


ENDINGS = {
    "end": ("pass", 0, "ok"),
    "raise": ("raise ValueError('no beds left')", 1, "error"),
    "exit": ("import sys; sys.exit(3)", 3, "cancelled"),
    "term": (
        "import os, signal, time; os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)",
        -signal.SIGTERM,
        "interrupted",
    ),
}


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_script(tmp_path: Path, settings: dict[str, str], ending: str, closed: bool) -> None:
    """It ends by itself, by an exception, by sys.exit, by SIGTERM, with ``close`` and without: its call is stored."""
    last, code, outcome = ENDINGS[ending]
    source = re.sub(r"^( +)(OpenAI\(\).*)$", rf"\1\2\n\1{last}", snippet("A script"), flags=re.M)
    source = source if closed else source.replace("obs.close(timeout=10)", "pass")
    (tmp_path / "nightly.py").write_text(source)

    done = subprocess.run(
        [sys.executable, "nightly.py"], cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=50
    )

    assert done.returncode == code, done.stderr
    (tree,) = stored(tmp_path, "nightly.db")
    assert [(node.name, node.outcome) for node in tree.nodes] == [("nightly", outcome), ("chat gpt-4o-mini", "ok")]
    assert {node.user_id for node in tree.nodes} == {"cron"}


def test_celery(tmp_path: Path, settings: dict[str, str]) -> None:
    """Tasks of workers that were forked after the engine was made are traces, each with its call."""
    python = interpreter("celery", "openai")
    if python is None:
        pytest.skip(f"celery: {MISSING}")
    (tmp_path / "queue").mkdir()
    folder = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "queue"}
    more = f"\napp.conf.broker_transport_options = {folder!r}\n"
    (tmp_path / "jobs.py").write_text(snippet("Celery") + more)
    environment = {**settings, "BROKER": "filesystem://", "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    options: Any = {"cwd": tmp_path, "env": environment}
    send = "import jobs; [jobs.summarize.delay(city) for city in ('Porto', 'Lisbon', 'Faro')]"
    subprocess.run([python, "-c", send], check=True, timeout=30, **options)
    worker = subprocess.Popen(
        [python, "-m", "celery", "-A", "jobs", "worker", "--pool", "prefork", "-c", "2", "--loglevel", "INFO"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options,
    )  # fmt: skip
    try:
        assert worker.stdout is not None
        seen = 0
        for line in worker.stdout:
            seen += "succeeded in" in line
            if seen == 3:
                break
    finally:
        worker.terminate()
        worker.communicate(timeout=30)

    trees = stored(tmp_path, "jobs.db")

    assert sorted(tree.nodes[0].properties["city"] for tree in trees) == ["Faro", "Lisbon", "Porto"]
    assert [[node.name for node in tree.nodes] for tree in trees] == [CALLED] * 3
    assert {tree.outcome for tree in trees} == {"ok"}


SCHEDULED = """
from datetime import datetime
import time
scheduler.add_job(summarize, "date", run_date=datetime.now(), args=["Porto"])
time.sleep(1)
scheduler.shutdown()
obs.close(timeout=10)
"""


def test_apscheduler(run: Run, tmp_path: Path, settings: dict[str, str]) -> None:
    """Each run is a trace with its call."""
    (tmp_path / "job.py").write_text(snippet("APScheduler") + SCHEDULED)

    done = run(tmp_path / "job.py", "apscheduler", "openai", cwd=tmp_path, env=settings)

    assert done.returncode == 0, done.stderr
    assert [[node.name for node in tree.nodes] for tree in stored(tmp_path, "jobs.db")] == [CALLED]


@contextmanager
def redis(folder: Path) -> Iterator[int]:
    """The port of a Redis server of this test alone."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("no redis-server")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        server.terminate()
        server.wait(timeout=20)


SEND = """
import asyncio
from arq import create_pool
from job import WorkerSettings


async def send():
    pool = await create_pool(WorkerSettings.redis_settings)
    jobs = [await pool.enqueue_job("summarize", city) for city in ("Porto", "Faro")]
    print([await job.result(timeout=60) for job in jobs])
    await pool.aclose()


asyncio.run(send())
"""


def test_arq(run: Run, tmp_path: Path, settings: dict[str, str]) -> None:
    """A worker takes jobs from a queue: each is a trace with its call, and SIGTERM loses none."""
    python = interpreter("arq", "openai")
    if python is None:
        pytest.skip(f"arq: {MISSING}")
    with redis(tmp_path) as port:
        more = (
            f"\nfrom arq.connections import RedisSettings\nWorkerSettings.redis_settings = RedisSettings(port={port})\n"
        )
        (tmp_path / "job.py").write_text(snippet("arq") + more)
        (tmp_path / "send.py").write_text(SEND)
        environment = {**settings, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
        worker = subprocess.Popen(
            [python, "-m", "arq", "job.WorkerSettings"], cwd=tmp_path, env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            sent = run(tmp_path / "send.py", "arq", "openai", cwd=tmp_path, env=environment, timeout=100)
        finally:
            worker.terminate()
            worker.wait(timeout=30)

    assert sent.returncode == 0, sent.stderr
    trees = stored(tmp_path, "jobs.db")
    assert [[node.name for node in tree.nodes] for tree in trees] == [CALLED] * 2
    assert {tree.nodes[0].properties["city"] for tree in trees} == {"Porto", "Faro"}
    assert {tree.user_id for tree in trees} == {"arq"}
