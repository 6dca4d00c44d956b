"""Decorated functions keep their signature for those who check types."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = """
from collections.abc import AsyncIterator, Iterator
from asgi_llmobs import observe, propagate

@observe
def bare(number: int, *, word: str = "x") -> float:
    return number + len(word)

@observe(kind="tool", name="called", team="travel")
async def called(number: int) -> str:
    return str(number)

@observe
def generator(count: int) -> Iterator[int]:
    yield from range(count)

@observe
async def stream(count: int) -> AsyncIterator[str]:
    yield str(count)

@observe(kind="agent")
class Agent:
    def __init__(self, name: str) -> None:
        self.name = name

    @observe
    def method(self, number: int) -> bytes:
        return b"x" * number

    @staticmethod
    @observe
    def static(number: int) -> int:
        return number

async def use() -> None:
    reveal_type(bare(1, word="a"))
    reveal_type(await called(1))
    reveal_type(generator(1))
    reveal_type(stream(1))
    reveal_type(Agent("a").method(1))
    reveal_type(Agent.static(1))
    reveal_type(propagate(bare)(1, word="a"))

bare("wrong")  # line of an error
called(word=1)  # line of an error
Agent(1)  # line of an error
propagate(bare)("wrong")  # line of an error
"""
TYPES = ["float", "str", "Iterator[int]", "AsyncIterator[str]", "bytes", "int", "float"]
CHECKERS = {"mypy": ["--no-incremental", "--cache-dir=/dev/null"], "basedpyright": ["--level", "error"]}


@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKERS)
def test_a_decorated_function_keeps_its_signature(checker: str, tmp_path: Path) -> None:
    """Results are of the types that were written, and wrong arguments are told, each on its line."""
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    path = tmp_path / "sample.py"
    path.write_text(SAMPLE)
    root = Path(__file__).parents[2]
    module = "basedpyright.__main__" if checker == "basedpyright" else checker
    command = [sys.executable, "-m", module, *CHECKERS[checker], str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, cwd=root)
    said = re.findall(r'(?:Revealed type is|Type of .* is) "([^"]+)"', done.stdout)
    wrong = {int(line) for line in re.findall(r"sample\.py:(\d+)(?::\d+)*(?:: error| - error)", done.stdout)}

    if said:  # pyright tells types only where it is asked for information
        assert [
            re.sub(r"[a-z_]+\.|, None\]", lambda found: "]" if "]" in found[0] else "", each) for each in said
        ] == TYPES
    assert wrong == {number for number, line in enumerate(SAMPLE.splitlines(), 1) if "line of an error" in line}, (
        done.stdout
    )
