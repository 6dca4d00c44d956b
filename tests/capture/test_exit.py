"""What is still open when the process ends."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import httpx
from asgi_llmobs.testing import capture

URL = "https://api.openai.com/v1/chat/completions"

class Stream(httpx.SyncByteStream):
    def __iter__(self):
        yield b"data: {}"

class Ring:
    pass

client = httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, stream=Stream())))
with capture() as captured:
    unread = client.send(client.build_request("POST", URL, json={}), stream=True)
    client.post(URL, json={})
    print(len(captured.requests))
ring = Ring()
ring.itself, ring.response = ring, unread
del unread
"""


def test_an_unread_stream_does_not_hold_the_process() -> None:
    """A response that is collected while the interpreter ends, after the engine was closed, starts no thread."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
