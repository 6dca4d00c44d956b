"""The command line, as a user types it."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import httpx
import pytest

import asgi_llmobs
from asgi_llmobs import cli
from asgi_llmobs.cli.output import shown

MODULE = [sys.executable, "-m", "asgi_llmobs"]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version is that of the package."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])

    assert ended.value.code == 0
    assert capsys.readouterr().out == f"llmobs {asgi_llmobs.__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["demo", "--help"], ["doctor", "--help"], ["erase", "--help"], ["recompute", "--help"]]
)
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Every command explains itself."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)

    assert ended.value.code == 0
    assert "usage: llmobs" in capsys.readouterr().out


def test_no_command_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command the usage is shown, and the exit code says so."""
    with pytest.raises(SystemExit) as ended:
        cli.main([])

    assert ended.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


class TestDoctor:
    def test_says_what_is_in_force(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Options with their source, the clients that are watched, and the store."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("LLMOBS_DATABASE_URL", f"sqlite:///{tmp_path}/there.db")
        monkeypatch.setenv("LLMOBS_SERVICE", "wayfarer")

        code = cli.main(["doctor"])

        printed = capsys.readouterr().out
        assert code == 0
        assert "wayfarer  (LLMOBS_SERVICE)" in printed
        assert "httpx: every client" in printed
        assert "not there yet" in printed
        assert list(tmp_path.iterdir()) == []

    def test_a_wrong_option_is_explained(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The option is named, the exit code is 1."""
        monkeypatch.setenv("LLMOBS_SAMPLE", "often")

        assert cli.main(["doctor"]) == 1
        assert "LLMOBS_SAMPLE='often' is not a number" in capsys.readouterr().out

    def test_a_store_that_cannot_be_reached(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A file that is no database is named, the exit code is 1, and no password is printed."""
        (tmp_path / "no.db").write_text("this is no database, only a few words in a file" * 100)
        monkeypatch.setenv("LLMOBS_DATABASE_URL", f"sqlite:///{tmp_path}/no.db")

        assert cli.main(["doctor"]) == 1
        assert "no.db" in capsys.readouterr().out

    def test_nothing_captured_is_said(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Capture that is switched off is the first thing to know."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("LLMOBS_CAPTURE", "off")

        cli.main(["doctor"])
        assert "nothing: capture is off" in capsys.readouterr().out

    def test_a_password_is_not_printed(self) -> None:
        """The store's address without its credentials."""
        assert shown("store", "postgresql://ada:s3cret@db/llm") == "postgresql://***@db/llm"

    def test_a_reader_that_leaves_is_no_error(self, tmp_path: Path) -> None:
        """``llmobs doctor | head -n 1`` ends quietly."""
        command = f"'{sys.executable}' -m asgi_llmobs doctor | head -n 1"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, cwd=tmp_path, env=environment()
        )

        assert done.stdout.startswith("asgi_llmobs ")
        assert done.stderr == ""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


class TestDemo:
    @pytest.mark.sdk
    @pytest.mark.slow
    def test_fills_a_database(self, tmp_path: Path) -> None:
        """``demo --once`` prints what is stored, leaves the database it was given, and nothing else."""
        database = tmp_path / "demo.db"
        done = subprocess.run(
            [*MODULE, "demo", "--once", "--database", f"sqlite:///{database}"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment(),
            stdin=subprocess.DEVNULL,
        )

        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        found = re.search(r"(\d+) LLM requests in (\d+) traces and (\d+) sessions: (.*)", done.stdout)
        assert found is not None, done.stdout
        requests, traces, sessions = (int(number) for number in found.groups()[:3])
        assert requests > traces > sessions > 100
        assert [word.split()[1] for word in found[4].split(", ")] == ["ok", "error", "cancelled"]
        assert [path.name for path in tmp_path.iterdir()] == [database.name]
        with closing(sqlite3.connect(database)) as store:
            (days,) = store.execute("SELECT count(DISTINCT start_ns / 86400000000000) FROM llmobs_spans").fetchone()
            kinds = {kind for (kind,) in store.execute("SELECT DISTINCT kind FROM llmobs_scores")}
        assert days > 8 and kinds == {"thumbs", "number", "label"}

    @pytest.mark.sdk
    @pytest.mark.slow
    def test_serves_until_it_is_stopped(self, tmp_path: Path) -> None:
        """The printed address shows the calls; Ctrl-C ends it without a traceback."""
        with subprocess.Popen(
            [*MODULE, "demo", "--no-history"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tmp_path,
            env=environment(),
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a background job is deaf to it
        ) as process:
            assert process.stdout is not None
            try:
                printed = ""
                while "Ctrl-C" not in printed:
                    line = process.stdout.readline()
                    assert line, printed
                    printed += line
                (url,) = re.findall(r"the admin: (\S+)", printed)
                page = httpx.get(f"{url}requests", trust_env=False)
                twin = httpx.get(f"{url}requests.json", trust_env=False)
                process.send_signal(signal.SIGINT)
                rest = process.stdout.read()
            except BaseException:
                process.kill()
                raise

        assert page.status_code == 200
        assert "gpt-4.1-mini" in page.text
        assert twin.headers["content-type"].startswith("application/json")
        assert (process.returncode, rest.strip()) == (130, "")
        assert list(tmp_path.iterdir()) == []

    def test_a_wrong_database_is_told_at_once(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Nothing starts with a URL that cannot work."""
        assert cli.main(["demo", "--once", "--database", "mysql://nowhere"]) == 1
        assert "mysql" in capsys.readouterr().out

    def test_a_port_that_is_taken(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The reason, not a traceback."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            code = cli.main(["demo", "--once", "--port", str(taken.getsockname()[1])])

        assert code == 1
        assert "in use" in capsys.readouterr().out

    def test_says_what_is_missing(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Without the extra packages the demo says which command installs them."""

        def missing(name: str) -> object:
            raise ModuleNotFoundError("No module named 'fastapi'", name="fastapi")

        monkeypatch.setattr("asgi_llmobs.cli.demo.import_example", missing)

        assert cli.main(["demo", "--once"]) == 1
        assert "pip install 'asgi_llmobs[demo]'" in capsys.readouterr().out
