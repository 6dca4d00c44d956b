"""The pytest plugin: the fixture ``llmobs``. Loads nothing of the package before a test asks for it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from asgi_llmobs.testing.recording import Captured


@pytest.fixture
def llmobs() -> "Iterator[Captured]":
    """Everything that the test makes the app record, as ``.requests``, ``.spans`` and ``.traces``."""
    from asgi_llmobs.testing.recording import capture  # a plugin is imported by every pytest run

    with capture() as captured:
        yield captured
