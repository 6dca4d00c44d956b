"""The house: common ground, a wing that writes, a wing that reads, a roof that joins them. Imports only point down."""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "asgi_llmobs"
FILES = sorted(PACKAGE.rglob("*.py"))

# every line is a floor, the lowest first; rooms on one floor know nothing of each other
GROUND = ["errors encodings frozen pace moments patterns", "limits records safely", "config"]
GROUND += ["context auth bodies pairing", "credentials", "providers pricing redaction scores", "semconv"]
WRITE_WING = ["spool", "pipeline", "writer", "otlp capture", "customlog"]
READ_WING = ["store filters", "queries erasure recompute retention", "admin"]
ROOF = ["accounting replay", "runtime", "middleware testing", "cli", "__main__", "__init__"]

# who may use what of others: the side of the app stays free of the database, and everybody of the frameworks
ONLY_IN = {
    "sqlmodel": {"store", "queries"},
    "sqlalchemy": {"store", "queries"},
    "jinja2": {"admin"},
    "genai_prices": {"pricing"},
    "fastapi": set(),
    "uvicorn": {"testing", "cli"},
}


def reachable(floors: list[str], cellar: set[str]) -> dict[str, set[str]]:
    """For each room on these floors the rooms below it, the *cellar* included."""
    below, result = set(cellar), {}
    for floor in floors:
        rooms = floor.split()
        result.update({room: set(below) for room in rooms})
        below.update(rooms)
    return result


GROUND_ROOMS = reachable(GROUND, set())
WING_ROOMS = reachable(WRITE_WING, set(GROUND_ROOMS)) | reachable(READ_WING, set(GROUND_ROOMS))
MAY_USE = GROUND_ROOMS | WING_ROOMS | reachable(ROOF, set(GROUND_ROOMS) | set(WING_ROOMS))


def dotted(path: Path) -> str:
    """The module's name; a package is called by its folder."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in FILES}


def room(module: str) -> str:
    """The part of the house that a module of ours belongs to."""
    return module.split(".")[1] if "." in module else "__init__"


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def imports(path: Path) -> set[str]:
    """Every module that the file imports, wherever in the file it does so."""
    found = set()
    for node in ast.walk(parsed(path)):
        match node:
            case ast.Import(names=names):
                found.update(alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                assert level == 0, f"{path}: imports are absolute"
                # a name may be a module of ours or a thing inside one
                found.update(full if (full := f"{module}.{alias.name}") in MODULES else str(module) for alias in names)
    return found


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] == PACKAGE.name}


def test_every_room_has_a_floor() -> None:
    """A new module must be given its place here, and a place must not outlive its module."""
    assert {room(name) for name in MODULES} == set(MAY_USE)


def test_a_module_uses_only_what_stands_below_it() -> None:
    """Never sideways, never up, never across to the other wing; imports inside functions count too."""
    for name, path in MODULES.items():
        used = {room(other) for other in ours(path)} - {room(name)}

        assert used <= MAY_USE[room(name)], name


def test_a_library_stays_where_it_belongs() -> None:
    """The database, the templates and the prices are each known to one part."""
    for name, path in MODULES.items():
        used = {other.split(".")[0] for other in imports(path)}

        assert {library for library in used & set(ONLY_IN) if room(name) not in ONLY_IN[library]} == set(), name


def test_no_module_needs_itself() -> None:
    """There is no circle, not even one that closes inside a function."""
    graph = {name: ours(path) & set(MODULES) - {name} for name, path in MODULES.items()}

    # a package imports its own modules to offer them: that its modules are found through it is no circle
    assert list(TopologicalSorter(graph).static_order())


def test_the_first_line_says_what_a_module_is_for() -> None:
    """A docstring of one line, in the first line."""
    for name, path in MODULES.items():
        text = ast.get_docstring(parsed(path))

        assert text and text.splitlines()[0].strip().endswith((".", ":", "?")), name
