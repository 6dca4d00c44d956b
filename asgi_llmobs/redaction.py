"""What is never stored: credentials in headers and addresses, and what the app asks to be taken out of bodies."""

import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import compress, product
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from asgi_llmobs.bodies import distinct
from asgi_llmobs.errors import ConfigError
from asgi_llmobs.safely import report

__all__ = ["MARK", "Redactor", "safe_text", "safe_url", "secrets_of", "seen_headers", "without_secrets"]

MARK = "[redacted]"
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
ADDRESSES = frozenset(b"location content-location referer http-referer".split())
SECRET_NAME = re.compile(r"(?i)(key|token|secret|passw|sig|signature|credential|auth|session)")

# what is hardly ever needed is compiled at its first use: it would be a tenth of the time that the import takes
compiled = lru_cache(maxsize=None)(re.compile)

# names of members whose values are credentials, wherever in a body they stand
SECRET_MEMBER = rb"""(?ix) ( " (?: (?:x-|openai_|anthropic_|azure_)? api [_-]? key
    | (?:aws_)? (?:secret_)? access [_-]? key (?:_id)?
    | (?:access|refresh|auth|authorization|bearer)[_-]?token | client[_-]?secret | secret[_-]?key
    | private[_-]?key | (?:proxy-)?authorization ) " \s*+ : \s*+ ) " (?: [^"\\] | \\. )++ "
    """
# the same names written out: a look into a set costs less than the pattern
SECRET_MEMBERS = frozenset(
    "".join(words).encode()
    for parts in (
        (("", "x-", "openai_", "anthropic_", "azure_"), ("api",), ("", "_", "-"), ("key",)),
        (("", "aws_"), ("", "secret_"), ("access",), ("", "_", "-"), ("key",), ("", "_id")),
        (("access", "refresh", "auth", "authorization", "bearer"), ("", "_", "-"), ("token",)),
        (("client",), ("", "_", "-"), ("secret",)),
        (("secret", "private"), ("", "_", "-"), ("key",)),
        (("", "proxy-"), ("authorization",)),
    )
    for words in product(*parts)
)

# the "n" of an escaped line end is no letter of the word before
WORD_START = rb"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf])|(?<=\\u[0-9a-fA-F]{4}))"
# literals first, so that text without them costs next to nothing
CREDENTIALS: tuple[tuple[tuple[bytes, ...], bytes], ...] = tuple(
    (tuple(literals.encode().split(b"|")), WORD_START + rb"(?:" + pattern.encode() + rb")")
    for literals, pattern in (
        ("sk-", r"sk-[A-Za-z0-9_-]{16,}"),
        ("AIza", r"AIza[A-Za-z0-9_-]{30,}"),
        ("AKIA|ASIA", r"(?:AKIA|ASIA)[A-Z0-9]{16}"),
        ("gsk_", r"gsk_[A-Za-z0-9]{20,}"),
        ("xai-", r"xai-[A-Za-z0-9]{20,}"),
        ("hf_", r"hf_[A-Za-z0-9]{20,}"),
        ("ghp_|gho_|ghu_|ghs_|ghr_", r"gh[pousr]_[A-Za-z0-9]{30,}"),
        ("github_pat_", r"github_pat_[A-Za-z0-9_]{30,}"),
        ("xox", r"xox[abprs]-[A-Za-z0-9-]{10,}"),
        ("eyJ", r"eyJ[A-Za-z0-9_-]{16,}\.eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{8,}"),
    )
)
BEARER = re.compile(rb"Bearer [A-Za-z0-9._~+/=-]{12,}")
# each of CREDENTIALS has so many of these characters in a row, and prose hardly ever
WORD = b"w" * 15
WORDS = bytes(ord("w") if chr(code).isalnum() and code < 128 or code in b"_-" else ord(" ") for code in range(256))
LONG = 4096  # from so many bytes on it pays to leave out what need not be looked at
LITERALS = tuple(literal for literals, _ in CREDENTIALS for literal in literals)
# a rare character of each credential, which is found faster than a word is, and how it goes on from there
TRACES = tuple(
    (character, re.compile(character + pattern))
    for character, pattern in (
        (b"-", rb"(?:(?<=sk-)|(?<=xai-)|(?<=xox[abprs]-))"),
        (b"_", rb"(?:(?<=gsk_)|(?<=hf_)|(?<=gh[pousr]_)|(?<=github_pat_))"),
        (b"J", rb"(?<=eyJ)"),
        (b"A", rb"(?:(?<=AKIA)|(?<=ASIA))"),
        (b"z", rb"(?<=AIz)"),
        (b"B", rb"(?=earer )"),
    )
)
MEMBER_NAME = re.compile(
    rb"""(?x) " (?=[xoarbscpXOARBSCP]) (?i: (?:x-|openai_|anthropic_|azure_)? api [_-]? key
    | (?:aws_)? (?:secret_)? access [_-]? key (?:_id)?
    | (?:access|refresh|auth|authorization|bearer)[_-]?token | client[_-]?secret | secret[_-]?key
    | private[_-]?key | (?:proxy-)?authorization ) "
    """
)
FEW_QUOTES = 48  # bytes to each; where there are more, a look into a set costs less
FEW = 32  # places that are looked at one by one
LONGEST_NAME = max(map(len, SECRET_MEMBERS))
HARMLESS, LONGEST_HARMLESS = 4096, 64  # so many words, and characters of one
_harmless: set[bytes] = set()  # long words that are no credentials: names of members and models, again and again
MARK_BYTES = MARK.encode()
SHORTEST = 12  # characters of a credential of this very call that is looked for; "ollama" and "EMPTY" are words
SECRET_HEADERS = frozenset(
    b"authorization proxy-authorization x-api-key api-key x-goog-api-key cookie x-amz-security-token "
    b"ocp-apim-subscription-key x-auth-token helicone-auth openai-api-key".split()
)
LONGEST_VALUE = 1_000  # characters of a header that are kept
KNOWN_HEADERS = 1_024
JSON_ESCAPE = re.compile(rb"(\\\\)|\\u([0-9a-fA-F]{4})")


def without_credentials(content: bytes, secrets: Sequence[bytes] = ()) -> bytes:
    """*content* with what looks like a credential, or is one of *secrets*, taken out."""
    for secret in secrets:
        if secret in content:
            content = content.replace(secret, MARK_BYTES)
    seen = once(content)
    if not looks_suspicious(seen):
        return content
    words = suspicious_words(seen)
    if words:
        for literals, pattern in CREDENTIALS:
            for literal in literals:
                if literal in words:
                    content = compiled(pattern).sub(MARK_BYTES, content)
                    break
    if b"Bearer " in seen:
        content = BEARER.sub(MARK_BYTES, content)
    if len(seen) > max(LONG, LONGEST_NAME * seen.count(b'"')):  # long texts
        seen = b'"'.join([piece for piece in seen.split(b'"') if len(piece) <= LONGEST_NAME])
    if not SECRET_MEMBERS.isdisjoint(seen.lower().split(b'"')):
        content = compiled(SECRET_MEMBER).sub(rb'\1"' + MARK_BYTES + b'"', content)
    return content


def holds_credentials(content: bytes, *, repeats: bool = True) -> bool:
    """Whether :func:`without_credentials` may find something that looks like a credential: a cheaper look.

    Args:
        content: A text.
        repeats: Whether it may be a stream, whose events repeat each other.
    """
    return looks_suspicious(once(content) if repeats else content)


def once(content: bytes) -> bytes:
    """*content*, where it is long without what the lines of a stream repeat."""
    return content if len(content) < LONG else distinct(content)


def looks_suspicious(content: bytes) -> bool:
    short = len(content) <= LONG
    for character, trace in TRACES:
        if character in content and (trace.search(content) if short else found(content, character, trace)):
            return True
    if content.count(b'"', 0, LONG) * FEW_QUOTES > min(len(content), LONG):
        return not SECRET_MEMBERS.isdisjoint(content.lower().split(b'"'))
    return found(content, b'"', MEMBER_NAME)


def found(content: bytes, character: bytes, pattern: re.Pattern[bytes]) -> bool:
    """Whether *pattern*, which begins with *character*, matches anywhere."""
    at = 0
    if len(content) > LONG:  # to leap from one to the next takes a tenth of the search's time where there are few
        for _ in range(FEW):
            at = content.find(character, at)
            if at < 0:
                return False
            if pattern.match(content, at) is not None:
                return True
            at += 1
    return pattern.search(content, at) is not None


def suspicious_words(content: bytes) -> bytes:
    """Every word of *content* that is long enough for a credential, once, but for those that are known to be none."""
    shape = content.translate(WORDS)
    start = shape.find(WORD)
    if start < 0:
        return b""
    found = set()
    while start >= 0:
        end = shape.find(b" ", start)
        if end < 0:
            end = len(content)
        found.add(content[start:end])
        start = shape.find(WORD, end)
    found -= _harmless
    if len(_harmless) > HARMLESS:
        _harmless.clear()
    for word in list(found):
        if len(word) < LONGEST_HARMLESS and not any(map(word.__contains__, LITERALS)):
            _harmless.add(word)
            found.discard(word)
    return b" ".join(found)


def unescaped(content: bytes) -> bytes:
    """JSON text with its ``\\uXXXX`` escapes written out where that changes nothing, so that a pattern finds them."""

    def plain(match: re.Match[bytes]) -> bytes:
        code = int(match.group(2) or b"0", 16)
        if code < 0x20 or code in (0x22, 0x5C) or 0xD800 <= code < 0xE000:
            return match.group()
        return chr(code).encode()

    return JSON_ESCAPE.sub(plain, content) if b"\\u" in content else content


def secrets_of(headers: Iterable[tuple[bytes, bytes]], url: str) -> tuple[bytes, ...]:
    """The credentials that a call carries, so that they can be taken out of whatever quotes them."""
    found: list[bytes] = []
    for name, value in headers:
        if name.lower() in SECRET_HEADERS:
            found += value, *value.replace(b";", b" ").split(b" ")  # the token without its scheme, each cookie
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
        keep = [name not in NEVER_RESPONSE_HEADERS if response else name in KEPT_REQUEST_HEADERS for name in lower]
        found = Known(
            tuple([name.decode("latin-1") for name in lower]),
            tuple(keep),
            frozenset(name.decode("latin-1") for name, kept in zip(lower, keep, strict=True) if kept)
            & {name.decode("latin-1") for name in ADDRESSES},
            tuple([place for place, name in enumerate(lower) if name in SECRET_HEADERS]),
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
