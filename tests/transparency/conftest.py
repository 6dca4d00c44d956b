"""One engine for all runs of the oracle; it watches only where a run asks for it."""

import gc
from collections.abc import Iterator

import pytest

from asgi_llmobs.capture import clients
from asgi_llmobs.testing import capture
from asgi_llmobs.testing.recording import Captured

pytest.register_assert_rewrite("tests.transparency.oracle")


@pytest.fixture(scope="module")
def captured() -> Iterator[Captured]:
    """What the watched runs recorded."""
    # the oracle collects garbage again and again: what earlier tests left behind is not looked through each time
    gc.collect()
    gc.freeze()
    with capture(instrument="off") as captured:
        yield captured
    clients.uninstrument()


@pytest.fixture(params=["httpx", "httpx2"])
def family(request: pytest.FixtureRequest):
    """Each of the two client libraries."""
    return pytest.importorskip(request.param)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def is_async(request: pytest.FixtureRequest) -> bool:
    """Both kinds of client."""
    return request.param
