"""What is never stored: credentials in headers and addresses, and what the app asks to be taken out of bodies."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from asgi_llmobs.errors import ConfigError
from asgi_llmobs.safely import report

__all__ = ["MARK", "Redactor", "safe_headers", "safe_text", "safe_url"]

MARK = "[redacted]"
WITHHELD = b'"[withheld: redaction failed]"'

# kept by name, everything else by default not: a list of secrets is never complete
KEPT_REQUEST_HEADERS = frozenset(
    "accept accept-encoding content-type content-encoding content-length user-agent openai-beta openai-organization "
    "openai-project anthropic-version anthropic-beta x-stainless-lang x-stainless-package-version x-stainless-os "
    "x-stainless-arch x-stainless-runtime x-stainless-runtime-version x-stainless-async x-stainless-retry-count "
    "x-stainless-read-timeout x-stainless-timeout idempotency-key x-title http-referer x-goog-api-client "
    "x-client-name traceparent x-amzn-bedrock-trace x-amzn-bedrock-guardrailidentifier".split()
)
NEVER_RESPONSE_HEADERS = frozenset(
    "set-cookie set-cookie2 authorization proxy-authenticate www-authenticate authentication-info "
    "proxy-authentication-info x-api-key api-key x-amz-security-token cookie".split()
)
SECRET_NAME = re.compile(r"(?i)(key|token|secret|passw|sig|signature|credential|auth|session)")

# literal first, so that text without them costs next to nothing
SECRET_TEXT = re.compile(
    r"sk-[A-Za-z0-9_-]{16,}"
    r"|AIza[A-Za-z0-9_-]{30,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}"
    r"|gsk_[A-Za-z0-9]{20,}"
    r"|xai-[A-Za-z0-9]{20,}"
    r"|hf_[A-Za-z0-9]{20,}"
    r"|gh[pousr]_[A-Za-z0-9]{30,}"
    r"|github_pat_[A-Za-z0-9_]{30,}"
    r"|xox[abprs]-[A-Za-z0-9-]{10,}"
    r"|eyJ[A-Za-z0-9_-]{16,}\.eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{8,}"
    r"|Bearer [A-Za-z0-9._~+/=-]{12,}"
)
SECRET_BYTES = re.compile(SECRET_TEXT.pattern.encode())


def safe_text(text: str) -> str:
    """*text* with everything that looks like a credential taken out."""
    return SECRET_TEXT.sub(MARK, text)


def safe_url(url: str) -> str:
    """*url* without user info, and with the values of query parameters that name a secret taken out."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        pairs = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return MARK
    query = parts.query
    if any(SECRET_NAME.search(name) for name, _ in pairs):
        query = "&".join(f"{quote(name)}={MARK if SECRET_NAME.search(name) else quote(value)}" for name, value in pairs)
    return safe_text(urlunsplit((parts.scheme, host, parts.path, query, "")))


def pairs(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]


def safe_headers(headers: Iterable[tuple[bytes, bytes]], *, response: bool) -> tuple[tuple[str, str], ...]:
    """The headers that may be stored: of a request the known harmless ones, of a response all but the secret ones."""
    kept = []
    for name, value in pairs(headers):
        if name not in NEVER_RESPONSE_HEADERS if response else name in KEPT_REQUEST_HEADERS:
            kept.append((name, safe_text(value)[:1_000]))
    return tuple(kept)


class Redactor:
    """Takes out of a body what must not be stored.

    Args:
        rule: A callable over body bytes, or regular expressions whose matches are replaced; ``None``: only what
            looks like a credential is taken out.

    Raises:
        ConfigError: A pattern does not compile.
    """

    def __init__(self, rule: Callable[[bytes], bytes] | Sequence[str] | None = None) -> None:
        self._callable: Callable[[bytes], bytes] | None = None
        self._patterns: list[re.Pattern[bytes]] = []
        if rule is None:
            return
        if callable(rule):
            self._callable = rule
            return
        if isinstance(rule, str):
            raise ConfigError("redact", f"give a list of regular expressions, [{rule!r}], or a callable over bytes")
        for pattern in rule:
            try:
                self._patterns.append(re.compile(pattern.encode()))
            except (re.error, AttributeError) as error:
                raise ConfigError("redact", f"{pattern!r} is no regular expression: {error}") from None

    def body(self, content: bytes) -> bytes:
        """*content* as it may be stored. A rule that fails withholds the content: it fails closed."""
        content = SECRET_BYTES.sub(MARK.encode(), content)
        for pattern in self._patterns:
            content = pattern.sub(MARK.encode(), content)
        if self._callable is None:
            return content
        try:
            redacted: Any = self._callable(content)
        except Exception as error:  # noqa: BLE001 - the app's own code; what it did not clear is not stored
            report("redact", error)
            return WITHHELD
        return redacted if isinstance(redacted, bytes) else WITHHELD

    def text(self, text: str) -> str:
        """*text* as it may be stored."""
        return self.body(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace") if text else text
