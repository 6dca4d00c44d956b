"""What your own tests need: a fake provider that the real SDKs talk to."""

from asgi_llmobs.testing.fake import ConnectionDropped, FakeProvider
from asgi_llmobs.testing.script import Received
from asgi_llmobs.testing.server import serve

__all__ = ["ConnectionDropped", "FakeProvider", "Received", "serve"]
