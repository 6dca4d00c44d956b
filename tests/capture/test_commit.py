"""The commit that an app runs from, as the files of git say it."""

import subprocess
from pathlib import Path

import pytest

from asgi_llmobs.capture.commit import commit

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test stands in a folder of its own, and nothing is remembered."""
    monkeypatch.chdir(tmp_path)
    commit.cache_clear()


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def test_a_branch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The reference that HEAD names, from a folder below too; git itself is not run."""
    write(".git/HEAD", "ref: refs/heads/main\n")
    write(".git/refs/heads/main", SHA + "\n")
    (tmp_path / "app" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "app" / "deep")
    monkeypatch.setattr(subprocess, "Popen", None)
    assert commit() == SHA[:12]


def test_packed(tmp_path: Path) -> None:
    """A reference that was packed."""
    write(".git/HEAD", "ref: refs/heads/main\n")
    write(".git/packed-refs", f"# pack-refs with: peeled\n{'f' * 40} refs/heads/other\n{SHA} refs/heads/main\n")
    assert commit() == SHA[:12]


def test_detached() -> None:
    """A commit that no branch names."""
    write(".git/HEAD", SHA)
    assert commit() == SHA[:12]


def test_a_further_worktree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its HEAD is its own, its branches are those of the whole."""
    write("main/.git/refs/heads/topic", SHA)
    write("main/.git/worktrees/two/HEAD", "ref: refs/heads/topic")
    write("main/.git/worktrees/two/commondir", "../..")
    write("two/.git", f"gitdir: {tmp_path}/main/.git/worktrees/two")
    monkeypatch.chdir("two")
    assert commit() == SHA[:12]


@pytest.mark.parametrize("head", ["", "ref: refs/heads/none", "nonsense", "ref: ../../../etc/passwd"])
def test_broken(head: str) -> None:
    """What is no commit is none, and nothing is raised."""
    write(".git/HEAD", head)
    assert commit() is None
