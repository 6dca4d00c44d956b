"""What the crash tests share: a provider on a socket, and a place for each database."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from asgi_llmobs.testing import FakeProvider
from tests.crash.identity import SPOOL
from tests.crash.servers import SERVERS, Server, served
from tests.databases import new_database


@pytest.fixture(scope="session")
def provider() -> Iterator[str]:
    """The address of a model that answers at once."""
    with FakeProvider().serve() as url:
        yield url


class Place(NamedTuple):
    """Where a server keeps what it captures."""

    url: str
    folder: str
    provider: str

    @contextmanager
    def serve(self, name: str, **environment: str) -> Iterator[Server]:
        """The server of this name, storing here."""
        settings = {
            "PROVIDER": self.provider,
            "LLMOBS_DATABASE_URL": self.url,
            "LLMOBS_DATA_DIR": self.folder,
            "LLMOBS_SPOOL_BYTES": str(SPOOL),
            **environment,
        }
        with served(SERVERS[name], **settings) as server:
            yield server


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, provider: str) -> Iterator[Place]:
    """An empty database on SQLite, or on what the test asks for."""
    backend = getattr(request, "param", "sqlite")
    folder = tmp_path / "data"
    folder.mkdir()
    with new_database(backend, folder, request) as url:
        yield Place(url, str(folder), provider)
