"""Uploads: read as forms, stored as what they are."""

import json

from asgi_llmobs.providers.multipart import summary_of


def test_a_summary_of_garbage():
    """Whatever is in it, it is JSON in the end."""
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=x", 'multipart/mixed; boundary=""'):
        for content in (
            b"",
            b"--x",
            b"--x\r\n\r\n",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nv\xff\r\n--x--',
        ):
            assert "multipart" in json.loads(summary_of(content, content_type))
