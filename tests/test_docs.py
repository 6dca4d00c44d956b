"""The docs are part of the program: their code runs, their links lead somewhere, and they leave nothing out."""

import ast
import asyncio
import gc
import inspect
import re
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import asgi_llmobs
from asgi_llmobs import auth, cli, testing
from asgi_llmobs.config import OPTIONS, Option

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("[A-Z]*.md"), *(ROOT / "docs").glob("*.md")])
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in PAGES}
MANUAL = "\n".join(text for name, text in TEXTS.items() if name == "README.md" or name.startswith("docs/"))
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)


def snippets(name: str) -> list[str]:
    return PYTHON.findall(TEXTS[name])


async def run_in_turn(name: str, names: dict[str, Any]) -> None:
    """The snippets of one page, one after the other in one module with these *names*, awaiting what they await."""
    for number, source in enumerate(snippets(name), start=1):
        code = compile(source, f"{name}#{number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, names)
        if inspect.isawaitable(result):
            await result


@pytest.fixture
def providers(monkeypatch: pytest.MonkeyPatch, fake_url: str, tmp_path: Path) -> Iterator[None]:
    """The SDKs find the fake provider by the variables that they read themselves."""
    for sdk, url in (("OPENAI", f"{fake_url}/v1"), ("ANTHROPIC", fake_url)):
        monkeypatch.setenv(f"{sdk}_API_KEY", "none")
        monkeypatch.setenv(f"{sdk}_BASE_URL", url)
    monkeypatch.chdir(tmp_path)
    yield
    with warnings.catch_warnings():  # clients that a pasted snippet leaves open: not in the middle of another test
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


# run elsewhere: the first as tests below, the others by tests/frameworks where these are installed
ELSEWHERE = ("docs/testing.md", "docs/frameworks.md", "docs/scripts.md")


@pytest.mark.sdk
@pytest.mark.parametrize("name", [name for name in TEXTS if snippets(name) and name not in ELSEWHERE])
def test_the_code_of_a_page_runs(name: str, providers: None) -> None:
    """From top to bottom, as a reader would paste it."""
    names: dict[str, Any] = {"__name__": "snippet"}
    asyncio.run(run_in_turn(name, names))
    names.clear()  # FastAPI remembers the last functions of any app, and with them clients and their connections


@pytest.mark.sdk
@pytest.mark.slow
def test_the_tests_of_the_testing_page_pass(providers: None, tmp_path: Path) -> None:
    """The page about tests holds tests: they are run by pytest."""
    source = "\n\n".join(snippets("docs/testing.md"))
    (tmp_path / "test_page.py").write_text(source, "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "."]
    plugin = ["-p", "asgi_llmobs.testing.plugin"] if not plugin_is_installed() else []
    done = subprocess.run([*command, *plugin], capture_output=True, text=True, cwd=tmp_path, stdin=subprocess.DEVNULL)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{source.count('def test_')} passed" in done.stdout


def plugin_is_installed() -> bool:
    from importlib.metadata import entry_points

    return any(point.value == "asgi_llmobs.testing.plugin" for point in entry_points(group="pytest11"))


def option_row(item: Option) -> str:
    """A line of the table of options; docs/configuration.md has it letter by letter."""
    default = "" if item.default in (None, ()) else f"`{item.default}`"
    variable = f"`{item.env}`" if item.parse is not None else ""
    return f"| `{item.name}` | {variable} | {default} | {item.help.replace('|', chr(92) + '|')} |"


def test_every_option_is_documented() -> None:
    """The table is the one of the code. When this fails, paste what it prints."""
    table = "\n".join(["| option | variable | default | |", "|---|---|---|---|", *map(option_row, OPTIONS)])

    assert table in TEXTS["docs/configuration.md"], table


def test_every_environment_variable_is_documented() -> None:
    """Also those that are no options."""
    sources = "\n".join(path.read_text("utf-8") for path in (ROOT / "asgi_llmobs").rglob("*.py"))
    used = set(re.findall(r'"(LLMOBS_[A-Z_]+)"', sources))

    assert {name for name in used if name not in MANUAL} == set()


PUBLIC = {
    "asgi_llmobs": [name for name in asgi_llmobs.__all__ if not name.startswith("_")],
    "asgi_llmobs.testing": testing.__all__,
    "asgi_llmobs.auth": ["allow", "basic", "token"],
    "LLMObs": [name for name, _ in inspect.getmembers(asgi_llmobs.LLMObs) if not name.startswith("_")],
}
# parts that other parts of the engine call; a user has no reason to
INTERNAL = {"after_fork", "before_fork", "database", "default_admin", "start", "store"}


@pytest.mark.parametrize("where", PUBLIC)
def test_every_public_name_is_documented(where: str) -> None:
    """A feature that is not in the docs does not exist."""
    missing = [name for name in PUBLIC[where] if name not in INTERNAL and not re.search(rf"\b{name}\b", MANUAL)]

    assert missing == []


@pytest.mark.parametrize("where", ["asgi_llmobs", "asgi_llmobs.testing", "asgi_llmobs.auth"])
def test_every_public_name_has_a_docstring(where: str) -> None:
    """help() says what it is."""
    module = {"asgi_llmobs": asgi_llmobs, "asgi_llmobs.testing": testing, "asgi_llmobs.auth": auth}[where]

    assert [name for name in PUBLIC[where] if not inspect.getdoc(getattr(module, name))] == []


def anchors(text: str) -> set[str]:
    """The addresses of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name: str) -> None:
    """Files exist, and so do the headings that are pointed at."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        path = (ROOT / name).parent / target if target else ROOT / name
        if not path.exists() or (anchor and anchor not in anchors(path.read_text("utf-8"))):
            broken.append(link)

    assert broken == []


def test_every_page_is_linked_from_the_readme() -> None:
    """What is not in the list is not found."""
    assert {name for name in TEXTS if name.startswith("docs/") and f"({name})" not in TEXTS["README.md"]} == set()


def test_the_changelog_begins_with_this_version() -> None:
    """A version without a word about it is not released."""
    first = re.search(r"^## (\S+) - \d{4}-\d\d-\d\d$", TEXTS["CHANGELOG.md"], re.M)

    assert first is not None
    assert first.group(1) == asgi_llmobs.__version__


def test_every_dependency_has_its_reason() -> None:
    """The table and the project file name the same packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = {re.split(r"[^\w.-]", line)[0] for line in project["dependencies"]}
    first_table = TEXTS["docs/dependencies.md"].partition("## Extras")
    extras = set(re.findall(r"^\| `(\w+)` \|", first_table[2].partition("## Looked")[0], re.M))

    assert set(re.findall(r"^\| `([\w.-]+)` \|", first_table[0], re.M)) == needed
    assert extras == set(project["optional-dependencies"])


def test_two_commands_set_everything_up() -> None:
    """The README has the command of the demo and the one of the tests, and CI runs the latter as it stands."""
    commands = re.findall(r"^python3 -m venv .*$", TEXTS["README.md"], re.M)

    assert [command.rpartition("&& ")[2] for command in commands] == [
        ".venv/bin/llmobs demo",
        ".venv/bin/python -m pytest",
    ]
    assert "readme_command '-m pytest'" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_every_command_is_documented() -> None:
    """Each command of the command line, and each of its flags, is in the docs and has help."""
    (commands,) = [action for action in cli.parser()._actions if action.choices and not action.option_strings]
    assert isinstance(commands.choices, dict)
    for name, command in commands.choices.items():
        assert f"llmobs {name}" in MANUAL
        assert command.description
        for action in command._actions:
            assert action.help
            for flag in action.option_strings:
                assert flag in ("-h", "--help") or f"`{flag}" in TEXTS["docs/command-line.md"]
