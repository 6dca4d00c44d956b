"""Signing in and out: the page that asks for a token or code, and the cookie that keeps the answer."""

from starlette.requests import Request
from starlette.responses import Response

from asgi_llmobs.admin.address import safe_next
from asgi_llmobs.admin.answers import plain, redirect
from asgi_llmobs.admin.frame import Frame
from asgi_llmobs.admin.lock import Lock, cookie_name
from asgi_llmobs.admin.sent import FORM, Refused, content_type, fields_of
from asgi_llmobs.admin.visit import Visit
from asgi_llmobs.admin.workers import in_thread
from asgi_llmobs.store.signins import SESSION_SECONDS

__all__ = ["Signing"]

LARGEST_FORM = 4096  # bytes
WRONG = {"token": "That is not it.", "code": "This code is wrong, used or older than 10 minutes."}


class Signing:
    """The way in and out of an admin that has a sign-in page."""

    def __init__(self, lock: Lock, frame: Frame) -> None:
        self.lock = lock
        self.frame = frame

    def is_login(self, visit: Visit) -> bool:
        """Whether the address is that of the sign-in page."""
        return visit.segments == ("login",) and not visit.as_json and self.lock.challenge == "form"

    def is_logout(self, visit: Visit) -> bool:
        """Whether the address is the one that signs out."""
        return visit.segments == ("logout",) and self.lock.challenge == "form"

    async def page(self, visit: Visit) -> Response:
        """The sign-in page; who is in already goes on."""
        decision = await self.lock.decide(visit.request)
        onward = visit.request.query_params.get("next", "")
        if decision.role is not None:
            return redirect(safe_next(onward))
        await self.lock.announce(visit.request)
        return await in_thread(self._html, visit, onward, "", 200, 0)

    async def enter(self, visit: Visit) -> Response:
        """Sign in with what the form holds."""
        request = visit.request
        if content_type(request) != FORM:
            return plain(415)
        try:
            fields = await fields_of(request, LARGEST_FORM)
        except Refused as refused:
            return plain(refused.status)
        onward = fields.get("next", "")
        wait = self.lock.wait(request)
        if wait:
            message = f"Too many wrong tries. Wait {wait} s."
            return await in_thread(self._html, visit, onward, message, 429, wait)
        # no await between the look at the back-off and the try that it counts: tries side by side would all be free
        entered = await self.lock.sign_in(request, fields.get("secret", ""))
        if entered is None:
            return await in_thread(self._html, visit, onward, WRONG[self.lock.asks], 401, 0)
        await self.lock.sign_out(request)
        value = f"{cookie_name(is_secure(request))}={entered[0]}; Max-Age={SESSION_SECONDS}; {cookie_flags(request)}"
        return redirect(safe_next(onward), headers={"set-cookie": value})

    async def leave(self, visit: Visit) -> Response:
        """Sign out."""
        await self.lock.sign_out(visit.request)
        gone = f"{cookie_name(is_secure(visit.request))}=; Max-Age=0; {cookie_flags(visit.request)}"
        return redirect("./login", headers={"set-cookie": gone})

    def _html(self, visit: Visit, onward: str, message: str, status: int, wait: int) -> Response:
        context = {
            "page": None,
            "page_title": "Sign in",
            "asks": self.lock.asks,
            "message": message,
            "next": safe_next(onward).removeprefix("./"),
        }
        headers = {"retry-after": str(wait)} if wait else {}
        return self.frame.page(visit, "pages/login.html", context, status=status, headers=headers)


def is_secure(request: Request) -> bool:
    """Whether the browser speaks TLS, to us or to the proxy in front."""
    said = request.headers.get("x-forwarded-proto", "") + request.headers.get("origin", "").partition(":")[0]
    return request.scope.get("scheme") == "https" or "https" in said


def cookie_flags(request: Request) -> str:
    # without Path a browser takes the folder of the address that it asked for: the mount, whatever proxies made of it
    return "HttpOnly; SameSite=Strict" + ("; Secure" if is_secure(request) else "")
