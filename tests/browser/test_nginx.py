"""Behind a real nginx that terminates TLS, and that may take a prefix away: signing in, reading, judging."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_llmobs.admin import Admin
from asgi_llmobs.auth import token
from asgi_llmobs.filters import Filter
from asgi_llmobs.queries.scores import list_names
from asgi_llmobs.store.database import Database
from asgi_llmobs.testing import serve
from tests.admin.seeding import fill
from tests.browser.conftest import Watched, answers, wait_for
from tests.processes import free_port

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]

TOKEN = "a long enough secret"
CONFIG = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} ssl; ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
    {locations}
  }}
  server {{ listen 127.0.0.1:{ready}; location / {{ return 200 "ready"; }} }}
}}
"""
HEADERS = (
    "proxy_set_header X-Forwarded-Proto https; proxy_set_header X-Forwarded-For $remote_addr; proxy_buffering off;"
)
LOCATIONS = {
    # as most have it: the Host goes on; as the default is: it becomes that of the app; and with a prefix taken away
    "same path": "location / {{ proxy_pass {app}; proxy_set_header Host $http_host; {headers} }}",
    "own host": "location / {{ proxy_pass {app}; {headers} }}",
    "prefix away": "location /tools/llm/ {{ proxy_pass {app}/; proxy_set_header Host $http_host; {headers} }}",
}
PLACES = {"same path": "/in/llm", "own host": "/in/llm", "prefix away": "/tools/llm/in/llm"}


@contextmanager
def nginx(folder: Path, app: str, locations: str) -> Iterator[str]:
    """Nginx in front of *app*; its address."""
    if shutil.which("nginx") is None or shutil.which("openssl") is None:
        pytest.skip("no nginx or no openssl here")
    folder.mkdir()
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/CN=localhost", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]  # fmt: skip
    subprocess.run(make, check=True, capture_output=True)
    port, ready = free_port(), free_port()
    told = CONFIG.format(folder=folder, port=port, ready=ready, locations=locations.format(app=app, headers=HEADERS))
    (folder / "nginx.conf").write_text(told)
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)], stdout=log, stderr=log
        )
    try:
        wait_for(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{ready}/"), folder)
        assert process.poll() is None, (folder / "log.txt").read_text()
        yield f"https://localhost:{port}"
    finally:
        process.terminate()
        process.wait(40)


@pytest.mark.parametrize("kind", list(LOCATIONS))
def test_behind_nginx(chromium: str, opened: Callable[..., Watched], tmp_path: Path, kind: str) -> None:
    """The cookie is sent over TLS only, links stay below the prefix, and a form is known as ours."""
    database = Database(f"sqlite:///{tmp_path / 'llmobs.db'}")
    records = fill(database)
    app = Starlette(routes=[Mount("/in/llm", Admin(database=database, auth=token(TOKEN), environ={}))])
    with serve(app, lifespan="off") as url, nginx(tmp_path / "nginx", url, LOCATIONS[kind]) as front:
        seen = opened(front, ignore_https_errors=True)
        page: Any = seen.page
        seen.go(f"{PLACES[kind]}/requests?status=ok")
        page.get_by_label("Token or password").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{front}{PLACES[kind]}/requests?status=ok")
        (cookie,) = page.context.cookies()
        assert cookie["secure"] and cookie["httpOnly"] and cookie["path"] == PLACES[kind]

        seen.go(f"{PLACES[kind]}/requests/{records['second'].id}")
        page.get_by_role("button", name="Good").click()
        page.wait_for_url("**#scores")
        assert page.url.startswith(f"{front}{PLACES[kind]}/requests/")
        page.keyboard.press("g")
        page.keyboard.press("t")
        page.wait_for_url(f"{front}{PLACES[kind]}/traces")
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url(f"{front}{PLACES[kind]}/login")
    assert [(found.name, found.count) for found in list_names(database, Filter())] == [("thumbs", 1)]
    database.dispose()
