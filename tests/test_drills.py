"""A toy provider, page, option, kind of span and column, put where CONTRIBUTING says that such things go: each works.

The package is copied and changed as somebody would who adds one. A further file that had to be touched would show here.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.processes import ROOT


class Line(NamedTuple):
    """What is added to a file: behind a line, or several, that stand there once."""

    file: str
    behind: str
    new: str


NEW_FILES = {
    "asgi_llmobs/providers/toy.py": '''"""Toy's models."""

from asgi_llmobs.providers.base import Dialect, Provider, Route, Wire, route
from asgi_llmobs.providers.bodies import answer_of, request_of
from asgi_llmobs.records import Reading, Usage

__all__ = ["ANY_HOST", "PROVIDERS"]


def read_say(wire: Wire, reading: Reading) -> None:
    """``POST /v1/say``."""
    reading.request_model = request_of(wire, reading).get("model")
    said = answer_of(wire, reading)
    reading.text = said.get("said")
    reading.usage = Usage(input_tokens=said.get("heard"), output_tokens=said.get("spoken"))
    reading.ended = True


ANY_HOST: tuple[Route, ...] = ()
PROVIDERS = (
    Provider(
        name="toy",
        hosts=(r"api\\.toy\\.example",),
        routes=(route("POST", "^/v1/say$", Dialect("toy.say", "chat", read_say)),),
    ),
)
''',
    "asgi_llmobs/admin/pages/toys.py": '''"""The toys."""

from typing import Any

from asgi_llmobs.admin.page import Page, Permission, View

__all__ = ["ROUTES"]


def load(view: View) -> dict[str, Any]:
    """One of them."""
    return {"toys": ["a top"]}


ROUTES = (
    Page(slug="toys", title="Toys", template="pages/toys.html", load=load, permission=Permission.VIEW, nav=True),
)
''',
    "admin_templates/pages/toys.html": """{% extends "base.html" %}
{% block content %}<ul>{% for toy in toys %}<li>{{ toy }}</li>{% endfor %}</ul>{% endblock %}
""",
}

LINES = (
    Line("asgi_llmobs/providers/__init__.py", "from asgi_llmobs.providers import (\n", "    toy,\n"),
    Line("asgi_llmobs/providers/__init__.py", "MODULES = (\n", "    toy,\n"),
    Line("asgi_llmobs/admin/pages/__init__.py", "from asgi_llmobs.admin.pages import (\n", "    toys,\n"),
    Line("asgi_llmobs/admin/pages/__init__.py", "ROUTES: tuple[Route, ...] = (\n", "    *toys.ROUTES,\n"),
    Line(
        "asgi_llmobs/config.py",
        '    service: str | None = option(None, "Name of this service, shown at every span.")\n',
        '    greeting: str = option("hello", "What is said first.")\n',
    ),
    Line("asgi_llmobs/records.py", '    LLM = "llm"\n', '    DAYDREAM = "daydream"\n'),
    Line("asgi_llmobs/semconv/names.py", '"unknown": Kind.SPAN, ', '"daydream": Kind.DAYDREAM, '),
    Line("asgi_llmobs/records.py", "    release: str | None = None\n", "    mood: str | None = None\n"),
    Line("asgi_llmobs/store/tables.py", "    release: str | None = words()\n", "    mood: str | None = words()\n"),
    Line("asgi_llmobs/store/rows.py", "name(span.release),", " name(span.mood),"),
    Line("asgi_llmobs/store/rows.py", "        name(request.release),\n", "        name(request.mood),\n"),
)

SCRIPT = """
import json, sqlite3
import httpx
from starlette.testclient import TestClient
from asgi_llmobs import LLMObs, span
from asgi_llmobs.auth import allow
from asgi_llmobs.records import Kind, Span
from asgi_llmobs.semconv.names import OPENINFERENCE
from asgi_llmobs.store.write import Sink

obs = LLMObs("sqlite:///toy.db", instrument="off")
answer = lambda request: httpx.Response(200, json={"said": "Hello!", "heard": 3, "spoken": 2})
with obs.wrap(httpx.Client(transport=httpx.MockTransport(answer))) as client:
    with span("musing", kind="daydream"):
        client.post("https://api.toy.example/v1/say", json={"model": "top-1", "prompt": "Hi"})
assert obs.flush(30)
Sink(obs.database).write(
    [Span(id="1" * 16, trace_id="2" * 32, project="default", kind=Kind.SPAN, name="sigh", start_ns=1, mood="calm")]
)
with TestClient(obs.admin(auth=allow(lambda request: "owner"))) as admin:
    pages = {path: admin.get(path).text for path in ("/toys", "/toys.json", "/requests.json")}
obs.close()
with sqlite3.connect("toy.db") as store:
    rows = store.execute("SELECT kind, provider, request_model, input_tokens, mood FROM llmobs_spans ORDER BY kind")
    print(json.dumps({
        "pages": pages, "rows": rows.fetchall(), "greeting": obs.config.greeting,
        "kind": OPENINFERENCE.kinds["daydream"],
    }))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What an app sees that uses the changed package."""
    folder = tmp_path_factory.mktemp("drill")
    for part in ("asgi_llmobs", "admin_templates"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file, text in NEW_FILES.items():
        (folder / file).write_text(text)
    for line in LINES:
        add(folder / line.file, line)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "LLMOBS_GREETING": "good morning"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def add(path: Path, line: Line) -> None:
    text = path.read_text()
    assert text.count(line.behind) == 1, line
    path.write_text(text.replace(line.behind, line.behind + line.new))


def test_a_provider(found: Any) -> None:
    """One file, and its name in a list: its calls are recorded and read."""
    assert ["llm", "toy", "top-1", 3, None] in found["rows"]
    assert "Hello!" in found["pages"]["/requests.json"]


def test_a_page(found: Any) -> None:
    """One file and one template, and its name in the order of the menu: it is there, and so is its JSON twin."""
    assert "<li>a top</li>" in found["pages"]["/toys"] and ">Toys<" in found["pages"]["/toys"]
    assert json.loads(found["pages"]["/toys.json"])["toys"] == ["a top"]


def test_an_option(found: Any) -> None:
    """One field: it has its variable of the environment."""
    assert found["greeting"] == "good morning"


def test_a_kind_of_span(found: Any) -> None:
    """One row among the records and one for each convention that knows it."""
    assert ["daydream", None, None, None, None] in found["rows"]
    assert found["kind"] == "daydream"


def test_a_column(found: Any) -> None:
    """A field of the record, a column of the table, and its place in the row."""
    assert ["span", None, None, None, "calm"] in found["rows"]
