"""Checkout, sdist and wheel hold the same files, and an installed wheel finds all of them."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import asgi_llmobs

ROOT = Path(__file__).parents[1]
FOLDERS = ("asgi_llmobs", "admin_templates", "example_app")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def checkout() -> set[str]:
    """Every file that belongs to the package, as a path from the root of the checkout."""
    found = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in found if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel made from that sdist."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment: the wheel, and what is installed here already."""
    home = tmp_path_factory.mktemp("home") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", home)
    python = home / "bin" / "python"
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (packages / "outer.pth").write_text(sysconfig.get_path("purelib"))
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    return python


def installed_name(path: str) -> str:
    return path if path.startswith("asgi_llmobs/") else f"asgi_llmobs/{path}"


def test_the_sdist_has_every_file(built: Path, checkout: set[str]) -> None:
    """What the checkout has, the source archive has, the tests and the docs too."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {name for name in names if name.startswith(FOLDERS)} == checkout
    assert {"tests/test_packaging.py", "README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml"} <= names


def test_the_wheel_has_every_file(wheel: Path, checkout: set[str]) -> None:
    """What the checkout has, the wheel has, below the one name that it installs."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert names == {installed_name(name) for name in checkout}
    assert {"asgi_llmobs/py.typed", "asgi_llmobs/admin_templates/base.html"} <= names


def test_an_installed_wheel_serves_its_pages(python: Path, tmp_path: Path) -> None:
    """Templates and static files are found where the wheel put them."""
    script = """
import re, anyio, httpx, asgi_llmobs
from asgi_llmobs.auth import allow

async def main():
    obs = asgi_llmobs.LLMObs("sqlite:///page.db")
    transport = httpx.ASGITransport(app=obs.admin(auth=allow(lambda request: True)))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        page = await client.get("/requests")
        assert page.status_code == 200, page.text
        links = re.findall(r'(?:href|src)="([^"]*static/[^"]+)"', page.text)
        assert links, page.text
        for link in links:
            assert (await client.get(httpx.URL("http://127.0.0.1/requests").join(link))).status_code == 200, link
    obs.close()

anyio.run(main)
print(asgi_llmobs.__file__)
"""
    where = run(python, "-c", script, cwd=tmp_path).strip().splitlines()[-1]

    assert Path(where).is_relative_to(python.parents[1])


def test_an_installed_command_says_its_version(python: Path, tmp_path: Path) -> None:
    """``llmobs --version`` is the version of the package."""
    printed = run(python.parent / "llmobs", "--version", cwd=tmp_path)

    assert printed.strip() == f"llmobs {asgi_llmobs.__version__}"


def test_an_installed_demo_runs(python: Path, tmp_path: Path) -> None:
    """The demo needs no checkout: its app is inside the wheel."""
    printed = run(python.parent / "llmobs", "demo", "--once", "--no-history", cwd=tmp_path)

    assert "29 LLM requests in 21 traces" in printed
