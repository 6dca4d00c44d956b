"""Which commit the app runs from: read from the files of ``.git`` once, without running git."""

from functools import cache
from pathlib import Path

from asgi_llmobs.safely import safely

__all__ = ["commit"]

SHOWN = 12  # digits that tell commits apart
MOST = 4 * 1024 * 1024  # bytes of a list of packed references that are looked through


@cache
def commit() -> str | None:
    """The first 12 digits of the commit that is checked out above the working directory; ``None`` outside git."""
    with safely("commit"):
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / ".git").exists():
                return checked_out(git_folder(folder / ".git"))
    return None


def git_folder(marker: Path) -> Path:
    """The folder with the references; of a further worktree its own one, which a file names."""
    if marker.is_dir():
        return marker
    text = line_of(marker)
    return (marker.parent / text.removeprefix("gitdir:").strip()).resolve()


def checked_out(git: Path) -> str | None:
    head = line_of(git / "HEAD")
    if not head.startswith("ref:"):
        return digits(head)
    name = head.removeprefix("ref:").strip()
    shared = git / "commondir"
    common = (git / line_of(shared)).resolve() if shared.exists() else git
    for folder in (git, common):
        if (folder / name).is_file():
            return digits(line_of(folder / name))
    with (common / "packed-refs").open(encoding="utf-8", errors="replace") as packed:
        for line in packed.read(MOST).splitlines():
            if line.endswith(f" {name}"):
                return digits(line.partition(" ")[0])
    return None


def line_of(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline(4_096).strip()


def digits(text: str) -> str | None:
    return text[:SHOWN] if len(text) >= 40 and set(text) <= set("0123456789abcdef") else None
