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
