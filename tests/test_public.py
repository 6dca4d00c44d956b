"""What the package offers, and what it costs to import it."""

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import asgi_llmobs

MODULES = ["asgi_llmobs", *(item.name for item in pkgutil.walk_packages(asgi_llmobs.__path__, "asgi_llmobs."))]
IMPORTABLE = [name for name in MODULES if not name.endswith("__main__") and ".example_app" not in name]
HEAVY = ("sqlmodel", "sqlalchemy", "jinja2", "genai_prices", "pydantic", "httpx", "httpx2", "uvicorn", "pytest")
# of the standard library: each takes a millisecond or more, and no app needs it for our sake before it is used
STANDARD = "argparse csv email fractions http multiprocessing sqlite3 statistics tempfile xml".split()
# of ours: what is loaded with an engine, with its writer or with the admin
LATER = "admin cli erasure filters otlp pricing queries retention semconv spool.durable store".split()


def fresh(code: str) -> str:
    """What a new Python prints that runs *code*, errors and warnings included."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.stdout.strip()


def test_the_namespace_is_the_list() -> None:
    """Nothing leaks in, nothing is missing; modules of the package are no names of it."""
    names = {name for name, value in vars(asgi_llmobs).items() if not isinstance(value, ModuleType)}

    assert {name for name in names if not name.startswith("_")} == set(asgi_llmobs.__all__) - {"__version__"}
    assert sorted(asgi_llmobs.__all__) == sorted(set(asgi_llmobs.__all__))
    assert len(asgi_llmobs.__all__) <= 25


def test_what_a_module_lists_it_has() -> None:
    """``__all__`` names things that exist."""
    for name in IMPORTABLE:
        module = importlib.import_module(name)

        assert [item for item in getattr(module, "__all__", ()) if not hasattr(module, item)] == [], name


@pytest.mark.parametrize("module", ["asgi_llmobs", "asgi_llmobs.auth", "asgi_llmobs.testing.plugin"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    """Databases, templates, prices, HTTP clients and servers wait until they are used."""
    heavy = HEAVY[:-1] if module.endswith("plugin") else HEAVY
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"

    assert fresh(code) == "[]"


def test_importing_loads_what_every_app_needs_and_no_more() -> None:
    """The parts that are loaded with an engine, its writer or the admin, and their modules of Python's own, wait."""
    later = (*STANDARD, *(f"asgi_llmobs.{name}" for name in LATER))

    assert fresh(f"import sys, asgi_llmobs; print([name for name in {later!r} if name in sys.modules])") == "[]"


def test_no_call_of_the_app_waits_for_an_import(tmp_path: object) -> None:
    """What is loaded after the engine is made is loaded in the writer's thread, not in the middle of a call."""
    code = f"""
import json, os, sys, threading
sys.path.insert(0, os.getcwd())
import httpx
from asgi_llmobs import LLMObs, LLMObsMiddleware, observe
from tests.calling import URL, ask, drive, question, reply
os.chdir({str(tmp_path)!r})

class Watch:
    loaded = []
    def find_spec(self, name, path=None, target=None):
        if name.startswith("asgi_llmobs") and threading.current_thread() is threading.main_thread():
            self.loaded.append(name)

def streamed(request):
    events = (b"data: " + json.dumps(dict(choices=[dict(delta=dict(content=text))])).encode() for text in "abc")
    return httpx.Response(200, headers={{"content-type": "text/event-stream"}}, content=b"\\n\\n".join(events))

@observe
async def work():
    await ask("sk-0123456789abcdef0123456789", authorization="Bearer 0123456789abcdef", cookie="a=b")
    for handler in (streamed, lambda request: httpx.Response(429), lambda request: 1 / 0):
        async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as client:
            try:
                await client.post(URL + "?key=secret", json=question("hello"))
            except ZeroDivisionError:
                pass

async def app(scope, receive, send):
    await work()
    await reply(send)

obs = LLMObs()
served = LLMObsMiddleware(app, obs=obs, admin=None)
sys.meta_path.insert(0, Watch())
drive(served)
print(Watch.loaded, obs.flush(30.0), obs.stats().stored)
"""
    assert fresh(code) == "[] True 6"


def test_making_an_engine_starts_nothing(tmp_path: object) -> None:
    """The constructor opens no file and starts no thread, and says nothing."""
    code = f"""
import os, threading
os.chdir({str(tmp_path)!r})
import asgi_llmobs
asgi_llmobs.LLMObs()
print(threading.active_count(), os.listdir("."))
"""
    assert fresh(code) == "1 []"


def test_importing_says_nothing() -> None:
    """No banner, no advice, no warning."""
    assert fresh("import asgi_llmobs, asgi_llmobs.testing") == ""
