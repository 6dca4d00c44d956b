"""A store in memory, filled through the sink that the writer uses, and admins over it."""

from collections.abc import Callable
from typing import Any

import pytest

from asgi_llmobs.admin import Admin
from asgi_llmobs.store.database import Database
from tests.databases import in_memory

MakeAdmin = Callable[..., Admin]
database = pytest.fixture(in_memory)


@pytest.fixture
def make_admin(database: Database) -> MakeAdmin:
    """Makes an admin over the store; its environment holds only what is given."""

    def make(auth: Any = None, environ: dict[str, str] | None = None, **more: Any) -> Admin:
        return Admin(database=database, auth=auth, environ=environ or {}, **more)

    return make
