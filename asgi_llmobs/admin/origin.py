"""Where a call of the admin comes from: what other sites may make a visitor's browser do, namely nothing."""

from urllib.parse import urlsplit

from starlette.requests import Request

from asgi_llmobs.admin.lock import is_loopback

__all__ = ["foreign_read", "foreign_write"]


def foreign_read(request: Request) -> bool:
    """Whether another site's page reads us, by fetch, script, image or frame. Following a link is no such thing."""
    site = request.headers.get("sec-fetch-site", "")
    if site in ("", "none", "same-origin"):
        return False
    navigates = request.headers.get("sec-fetch-mode") == "navigate"
    return not (navigates and request.headers.get("sec-fetch-dest", "document") == "document")


def foreign_write(request: Request) -> bool:
    """Whether a call that changes something was not made by a page of ours.

    A browser says so in ``Sec-Fetch-Site`` and ``Origin``, which no page can forge. Whoever sends neither must show
    a token: no browser adds that by itself.
    """
    site = request.headers.get("sec-fetch-site")
    origins = request.headers.getlist("origin")
    if site is None and not origins:
        return not request.headers.get("authorization", "").lower().startswith("bearer ")
    if site is not None and site != "same-origin":
        return True
    if len(origins) > 1:
        return True
    if not origins or same_host(request, origins[0]):
        return False
    # a proxy on this machine may have put its own Host in: then the browser's word must do
    return origins[0] == "null" or site is None or not is_here(host_of(request))


def host_of(request: Request) -> str:
    return request.headers.get("host", "")


def is_here(host: str) -> bool:
    """Whether *host*, with or without a port, is this machine."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or is_loopback(name)


def same_host(request: Request, origin: str) -> bool:
    """Whether *origin* is the host that was asked, as the browser or the proxy in front names it."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return False
    default = ":443" if parts.scheme == "https" else ":80"
    asked = {host_of(request), *request.headers.getlist("x-forwarded-host")}
    return parts.netloc.lower().removesuffix(default) in {host.lower().removesuffix(default) for host in asked if host}
