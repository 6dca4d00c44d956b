"""What all tests share: a clean environment, a fake provider on a socket, and where Chromium is."""

import gc
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgi_llmobs import runtime, safely, uninstrument_httpx
from asgi_llmobs.testing import FakeProvider
from tests import examples
from tests.databases import database, database_url, made_schema, postgres, postgres_store

__all__ = ["database", "database_url", "made_schema", "postgres", "postgres_store"]

# without compiled files every worker and each of the processes that tests start would compile all modules for itself
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

examples.load_profile()
gc.set_threshold(50_000, 20, 20)  # thousands of small tests in one process: a tenth of their time went into it


def pytest_xdist_auto_num_workers() -> int | None:
    """Two more than there are cores: half of the time a test waits for a server, a thread or a disk."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else (os.cpu_count() or 1) + 2


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: no garbage collection is to look through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a bundle with one certificate: with that a client is made ten times as fast as with all."""
    certifi = pytest.importorskip("certifi")
    whole = Path(certifi.where()).read_text()
    end = "-----END CERTIFICATE-----\n"
    path = tmp_path_factory.mktemp("certificates") / "one.pem"
    path.write_text(whole[whole.index("-----BEGIN") : whole.index(end)] + end)
    return str(path)


@pytest.fixture(scope="session", autouse=True)
def one_certificate(certificate: str) -> Iterator[None]:
    """Nothing here is encrypted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", certificate)
        yield


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, proxies and options of the machine the suite runs on must not decide a test."""
    for name in list(os.environ):
        if name.startswith("LLMOBS_") and not name.startswith("LLMOBS_TEST_"):
            monkeypatch.delenv(name)
        if name.endswith(("_API_KEY", "_BASE_URL")) or name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def no_failures_of_another_test() -> None:
    """What went wrong in our own code is counted for the whole process: each test starts at none."""
    safely.reset()


@pytest.fixture(autouse=True)
def no_engine_of_another_test() -> Iterator[None]:
    """An engine that a test makes ends with it, and no client stays watched."""
    before = runtime.current_engine()
    yield
    after = runtime.current_engine()
    if after is not before:
        assert after is not None
        after.close()
        runtime.make_current(before)
        uninstrument_httpx()


@pytest.fixture
def fake() -> FakeProvider:
    """A provider that is not there, for use inside the process."""
    return FakeProvider()


@pytest.fixture
def fake_url(fake: FakeProvider) -> Iterator[str]:
    """The same provider on a socket; its address."""
    with fake.serve() as url:
        yield url


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium or Chrome; without one the test is skipped."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    candidates = (os.environ.get("LLMOBS_TEST_CHROMIUM"), *(shutil.which(name) for name in names))
    for path in candidates:
        if path and Path(path).exists():
            return path
    pytest.skip("no Chromium found: install one, or name it in LLMOBS_TEST_CHROMIUM")
