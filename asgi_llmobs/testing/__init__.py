"""What your own tests need: ``capture()`` and the fixture ``llmobs``, and a fake provider for the real SDKs."""

from asgi_llmobs.testing.fake import ConnectionDropped, FakeProvider
from asgi_llmobs.testing.recording import Captured, capture
from asgi_llmobs.testing.script import Received
from asgi_llmobs.testing.server import serve

__all__ = ["Captured", "ConnectionDropped", "FakeProvider", "Received", "capture", "serve"]
