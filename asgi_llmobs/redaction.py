"""What is never stored: credentials in headers and addresses, and what the app asks to be taken out of bodies."""

import math
import re
import time
from base64 import b64decode
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import compress
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from asgi_llmobs.credentials import MARK, MARK_BYTES, without_credentials
from asgi_llmobs.errors import ConfigError
from asgi_llmobs.patterns import compiled
from asgi_llmobs.safely import report

__all__ = ["MARK", "Redactor", "safe_text", "safe_url", "secrets_of", "seen_headers", "without_secrets"]

WITHHELD = b'"[withheld: redaction failed]"'
LATE = b'"[withheld: redaction takes too long]"'
RULE_SECONDS = 1.0  # that a callable of the app may take for all texts of a record, on average

# kept by name, everything else by default not: a list of secrets is never complete
KEPT_REQUEST_HEADERS = frozenset(
    b"accept accept-encoding content-type content-encoding content-length user-agent openai-beta openai-organization "
    b"openai-project anthropic-version anthropic-beta x-stainless-lang x-stainless-package-version x-stainless-os "
    b"x-stainless-arch x-stainless-runtime x-stainless-runtime-version x-stainless-async x-stainless-retry-count "
    b"x-stainless-read-timeout x-stainless-timeout idempotency-key x-title http-referer x-goog-api-client "
    b"x-client-name traceparent x-amzn-bedrock-trace x-amzn-bedrock-guardrailidentifier".split()
)
NEVER_RESPONSE_HEADERS = frozenset(
    b"set-cookie set-cookie2 authorization proxy-authenticate www-authenticate authentication-info "
    b"proxy-authentication-info x-api-key api-key x-amz-security-token cookie".split()
)
ADDRESSES = frozenset(
    b"location content-location referer http-referer operation-location azure-asyncoperation x-goog-upload-url".split()
)
SECRET_NAME = re.compile(r"(?i)(key|token|secret|passw|pwd|jwt|sig|signature|credential|auth|session)")

SHORTEST = 12  # characters of a credential of this very call that is looked for; "ollama" and "EMPTY" are words
SECRET_HEADERS = frozenset(
    b"authorization proxy-authorization x-api-key api-key x-goog-api-key cookie x-amz-security-token "
    b"ocp-apim-subscription-key x-auth-token helicone-auth openai-api-key".split()
)
# other headers of gateways and services; names of harmless ones that sound alike are among those that are kept
SECRET_HEADER = re.compile(rb"api-?key|-(?:key|token|auth)$|secret|passw|credential$|cookie|authorization")
LONGEST_VALUE = 1_000  # characters of a header that are kept
KNOWN_HEADERS = 1_024
JSON_ESCAPE = rb"(\\\\)|\\u([0-9a-fA-F]{4})"


def unescaped(content: bytes) -> bytes:
    """JSON text with its ``\\uXXXX`` escapes written out where that changes nothing, so that a pattern finds them."""

    def plain(match: re.Match[bytes]) -> bytes:
        code = int(match.group(2) or b"0", 16)
        if code < 0x20 or code in (0x22, 0x5C) or 0xD800 <= code < 0xE000:
            return match.group()
        return chr(code).encode()

    return compiled(JSON_ESCAPE).sub(plain, content) if b"\\u" in content else content


def is_secret_header(name: bytes) -> bool:
    """Whether the value of the header *name*, in lower case, is a credential; ``tokens`` are none."""
    return name in SECRET_HEADERS or (name not in KEPT_REQUEST_HEADERS and SECRET_HEADER.search(name) is not None)


def is_kept_header(name: bytes, *, response: bool) -> bool:
    """Whether the header *name*, in lower case, may be stored."""
    if response:
        return name not in NEVER_RESPONSE_HEADERS and not is_secret_header(name)
    return name in KEPT_REQUEST_HEADERS


def basic_password(value: bytes) -> tuple[bytes, ...]:
    """The password of HTTP Basic authentication, which an answer may quote without its coding."""
    scheme, _, coded = value.partition(b" ")
    if scheme.lower() != b"basic":
        return ()
    try:
        return (b64decode(coded, validate=True).partition(b":")[2],)
    except ValueError:
        return ()


def secrets_of(headers: Iterable[tuple[bytes, bytes]], url: str) -> tuple[bytes, ...]:
    """The credentials that a call carries, so that they can be taken out of whatever quotes them."""
    found: list[bytes] = []
    for name, value in headers:
        if is_secret_header(name.lower()):
            words = value.replace(b";", b" ").split(b" ")  # the token without its scheme, each cookie
            found += value, *words, *(word.partition(b"=")[2] for word in words), *basic_password(value)
    found += url_secrets(url)
    if not found:
        return ()
    return tuple(sorted({secret.strip() for secret in found if len(secret.strip()) >= SHORTEST}, key=len, reverse=True))


@lru_cache(maxsize=512)  # an app calls few addresses
def url_secrets(url: str) -> tuple[bytes, ...]:
    """What of an address is a credential."""
    try:
        parts = urlsplit(url)
        found = [value.encode() for name, value in parse_qsl(parts.query) if SECRET_NAME.search(name)]
        raw = (part.partition("=") for part in parts.query.split("&"))  # as it is written, and above as it is meant
        found += [value.encode() for name, _, value in raw if SECRET_NAME.search(name)]
        found += [text.encode() for text in (parts.password, parts.username) if text]
    except ValueError:
        return ()
    return tuple(found)


def safe_text(text: str, secrets: Sequence[bytes] = ()) -> str:
    """*text* with everything that looks like a credential, or is one of *secrets*, taken out."""
    raw = text.encode("utf-8", "surrogatepass")
    safe = without_credentials(raw, secrets)
    return text if safe is raw or safe == raw else safe.decode("utf-8", "replace")


@lru_cache(maxsize=512)
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


class Seen(NamedTuple):
    """The headers of one side of a call: by names in lower case, those that may be stored, and those with secrets."""

    by_name: dict[str, str]
    kept: tuple[tuple[str, str], ...]
    secret: list[tuple[bytes, bytes]]


class Known(NamedTuple):
    """What is done with the headers of a list of names: calls of one client have the same list again and again."""

    labels: tuple[str, ...]  # the names in lower case
    kept: tuple[bool, ...]
    addresses: frozenset[str]  # of those that are kept
    secret: tuple[int, ...]  # places of those whose values are credentials


_known_names: tuple[dict[tuple[bytes, ...], Known], ...] = ({}, {})  # by side


def known_names(names: tuple[bytes, ...], *, response: bool) -> Known:
    """What is done with headers of these names."""
    every = _known_names[response]
    found = every.get(names)
    if found is None:
        lower = [name.lower() for name in names]
        keep = [is_kept_header(name, response=response) for name in lower]
        found = Known(
            tuple([name.decode("latin-1") for name in lower]),
            tuple(keep),
            frozenset(name.decode("latin-1") for name, kept in zip(lower, keep, strict=True) if kept)
            & {name.decode("latin-1") for name in ADDRESSES},
            tuple([place for place, name in enumerate(lower) if is_secret_header(name)]),
        )
        if len(every) >= KNOWN_HEADERS:
            every.clear()
        every[names] = found
    return found


def seen_headers(headers: Sequence[tuple[bytes, bytes]], *, response: bool, harmless: bool = False) -> Seen:
    """What *headers* say, in text, and what of them may be stored.

    Args:
        headers: Names, in any case, and values.
        response: Whose they are: of a request the known harmless ones are kept, of a response all but the secret ones.
        harmless: They were looked through before, and hold nothing that looks like a credential.
    """
    known = known_names(tuple([name for name, _ in headers]), response=response)
    pairs = list(zip(known.labels, [value.decode("latin-1") for _, value in headers], strict=True))
    kept = list(compress(pairs, known.kept))
    if known.addresses:
        kept = [(label, safe_url(value) if label in known.addresses else value) for label, value in kept]
    values = [value for _, value in kept]
    if any(map(LONGEST_VALUE.__lt__, map(len, values))):
        kept = [(label, value[:LONGEST_VALUE]) for label, value in kept]
        values = [value for _, value in kept]
    if not harmless:
        text = "\n".join(values)  # one look at all of them instead of one at each
        if safe_text(text) != text:
            kept = [(label, safe_text(value)) for label, value in kept]
    return Seen(dict(pairs), tuple(kept), [(headers[place][0].lower(), headers[place][1]) for place in known.secret])


def without_secrets(kept: tuple[tuple[str, str], ...], secrets: Sequence[bytes]) -> tuple[tuple[str, str], ...]:
    """*kept* headers without the credentials of their call."""
    if secrets:
        values = "\n".join([value for _, value in kept]).encode("utf-8", "surrogatepass")
        if any(secret in values for secret in secrets):
            return tuple((name, safe_text(value, secrets)) for name, value in kept)
    return kept


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
        self._left = math.inf  # seconds that the callable may still take
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

    def body(self, content: bytes, secrets: Sequence[bytes] = (), *, harmless: bool = False) -> bytes:
        """*content* as it may be stored. A rule that fails withholds the content: it fails closed.

        Args:
            content: A body, or any text.
            secrets: Credentials of this very call, see :func:`secrets_of`.
            harmless: It was looked through before, and holds nothing that looks like a credential.
        """
        content = self.patterns(content, secrets, harmless=harmless)
        return content if self._callable is None else self._asked(self._callable, content)

    def next_record(self) -> None:
        """The texts that follow are of another record: time is given for them. Without it there is no limit."""
        self._left = min(RULE_SECONDS, self._left + RULE_SECONDS)

    def _asked(self, rule: Callable[[bytes], bytes], content: bytes) -> bytes:
        if self._left <= 0:  # nothing can be stored while it works, and what waits does not wait for ever
            report("redact", TimeoutError(), f"redact takes more than {RULE_SECONDS:g} s a call: content is withheld")
            return LATE
        started = time.monotonic()
        try:
            redacted: Any = rule(content)
        except Exception as error:  # noqa: BLE001 - the app's own code; what it did not clear is not stored
            report("redact", error)
            return WITHHELD
        finally:
            self._left -= time.monotonic() - started
        return redacted if isinstance(redacted, bytes) else WITHHELD

    def patterns(self, content: bytes, secrets: Sequence[bytes] = (), *, harmless: bool = False) -> bytes:
        """*content* without credentials and without what the patterns match; a callable is not asked."""
        if not harmless:
            content = without_credentials(content, secrets)
        if self._patterns:
            content = unescaped(content)
            for pattern in self._patterns:
                content = pattern.sub(MARK_BYTES, content)
        return content

    def text(self, text: str, secrets: Sequence[bytes] = ()) -> str:
        """*text* as it may be stored."""
        if not text:
            return text
        raw = text.encode("utf-8", "surrogatepass")
        safe = self.body(raw, secrets)
        return text if safe == raw else safe.decode("utf-8", "replace")
