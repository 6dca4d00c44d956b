"""What looks like a credential, wherever in a text it stands, and texts without it."""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import product

from asgi_llmobs.bodies import distinct
from asgi_llmobs.patterns import compiled

__all__ = ["MARK", "holds_credentials", "is_secret_member", "is_secret_property", "without_credentials"]

MARK = "[redacted]"
MARK_BYTES = MARK.encode()

# names whose values are credentials, wherever in a text they stand
NAME = rb"""(?: (?:x-|openai_|anthropic_|azure_)? api [_-]? key
    | (?:aws_)? (?:secret_)? access [_-]? key (?:_id)?
    | (?:access|refresh|auth|authorization|bearer|id|(?:aws_)?(?:session|security))[_-]?token
    | client[_-]?secret | (?:secret|private)[_-]?key | (?:proxy-)?authorization )"""
# the same names written out: a look into a set costs less than the pattern
NAMES = frozenset(
    "".join(words).encode()
    for parts in (
        (("", "x-", "openai_", "anthropic_", "azure_"), ("api",), ("", "_", "-"), ("key",)),
        (("", "aws_"), ("", "secret_"), ("access",), ("", "_", "-"), ("key",), ("", "_id")),
        (("access", "refresh", "auth", "authorization", "bearer", "id"), ("", "_", "-"), ("token",)),
        (("", "aws_"), ("session", "security"), ("", "_", "-"), ("token",)),
        (("client",), ("", "_", "-"), ("secret",)),
        (("secret", "private"), ("", "_", "-"), ("key",)),
        (("", "proxy-"), ("authorization",)),
    )
    for words in product(*parts)
)
# of properties only: in a body a model may be asked for one, or be told what a form has
PASSWORDS = frozenset((b"password", b"passwd", b"passphrase"))
# also in JSON that is a text of JSON, as the arguments of tools are, and once more in that
SECRET_MEMBERS = NAMES | {name + b"\\" * count for name in NAMES for count in (1, 3, 7)}
SECRET_MEMBER = rb"(?ix) ( \" " + NAME + rb""" " \s*+ : \s*+ ) " (?: [^"\\] | \\. )++ " """
ESCAPED_MEMBER = (
    rb"(?ix) ( (\\{1,7}+\") "
    + NAME
    + rb""" \2 (?: \s | \\+[nrt] )*+ : (?: \s | \\+[nrt] )*+ \2 )
    (?: [^"\\]++ | \\++[^"\\] )++ (?= \\++" )"""
)
# of assignments and parameters of addresses, up to the sign
ASSIGNED = (
    rb"(?ix) (?: "
    + NAME
    + rb""" | x-amz-(?:signature|credential) | signature | secret | account_?key
    | (?: [?&] | \\u0026 ) (?:key|token|sig|jwt) ) \ ? \Z"""
)
# what follows it: at least one digit and no call, for otherwise it is the name of another thing
VALUE = rb"=(\ ?['\"]?)(?=[A-Za-z_%+/-]*+[0-9])[A-Za-z0-9_%+/-]{16,}+=*+(?!\.\w|\()"
LONGEST_ASSIGNED = 40

# the "n" of an escaped line end is no letter of the word before
WORD_START = rb"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf])|(?<=\\u[0-9a-fA-F]{4}))"
# literals first, so that text without them costs next to nothing
CREDENTIALS: tuple[tuple[tuple[bytes, ...], bytes], ...] = tuple(
    (tuple(literals.encode().split(b"|")), WORD_START + rb"(?:" + pattern.encode() + rb")")
    for literals, pattern in (
        ("sk-", r"c?sk-[A-Za-z0-9_-]{16,}"),
        ("AIza", r"AIza[A-Za-z0-9_-]{30,}"),
        ("AKIA|ASIA", r"(?:AKIA|ASIA)[A-Z0-9]{16}"),
        ("ATATT3", r"ATATT3[A-Za-z0-9_=-]{30,}"),
        ("gsk_", r"gsk_[A-Za-z0-9]{20,}"),
        ("xai-", r"xai-[A-Za-z0-9]{20,}"),
        ("hf_", r"hf_[A-Za-z0-9]{20,}"),
        ("r8_", r"r8_[A-Za-z0-9]{30,}"),
        ("fw_", r"fw_[A-Za-z0-9]{20,}"),
        ("pplx-", r"pplx-[A-Za-z0-9]{30,}"),
        ("nvapi-", r"nvapi-[A-Za-z0-9_-]{30,}"),
        ("tvly-", r"tvly-[A-Za-z0-9-]{20,}"),
        ("lsv2_", r"lsv2_(?:pt|sk)_[A-Za-z0-9_]{30,}"),
        ("ghp_|gho_|ghu_|ghs_|ghr_", r"gh[pousr]_[A-Za-z0-9]{30,}"),
        ("github_pat_", r"github_pat_[A-Za-z0-9_]{30,}"),
        ("glpat-", r"glpat-[A-Za-z0-9_-]{20,}"),
        ("npm_", r"npm_[A-Za-z0-9]{30,}"),
        ("pypi-", r"pypi-[A-Za-z0-9_-]{30,}"),
        ("k_live_|k_test_", r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,}"),
        ("shpat_|shpss_", r"shp(?:at|ss)_[A-Fa-f0-9]{32}"),
        ("ntn_", r"ntn_[A-Za-z0-9]{30,}"),
        ("dop_v1_", r"dop_v1_[a-f0-9]{40,}"),
        ("xox", r"xox[abprs]-[A-Za-z0-9-]{10,}"),
        ("xapp-", r"xapp-[A-Za-z0-9-]{20,}"),
        ("eyJ", r"eyJ[A-Za-z0-9_-]{16,}\.eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{8,}"),
    )
)
BASIC = rb"(?=[A-Za-z+/]*+[0-9=])[A-Za-z0-9+/]{12,}+={0,2}"
USER_INFO = rb"://[^/\s:@\"'\\?#]{0,64}+:"
PASSWORD = rb"[^/\s@\"'\\?#]{1,256}+(?=@)"
# known by what stands before them: a literal, a pattern whose first group stays
PLACED: tuple[tuple[bytes, bytes], ...] = (
    (b"Bearer ", rb"()Bearer [A-Za-z0-9._~+/=-]{12,}"),
    (b"Basic ", rb"()Basic " + BASIC),
    (b"SG.", WORD_START + rb"()SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
    (
        b"PRIVATE KEY-----",
        rb"(-----BEGIN [A-Z ]{0,24}PRIVATE KEY-----)(?:[A-Za-z0-9+/=\s]|\\+[nr])++",
    ),
    (b"://", rb"(" + USER_INFO + rb")" + PASSWORD),
    (b"ey: ", rb"(ey: (?i:(?<=api-key: )))(?=[A-Za-z_-]*+[0-9])[A-Za-z0-9._~+/=-]{12,}"),
    (b"ookie: ", rb"(ookie: )[^\s=;\"'\\]{1,64}=[^\r\n\"'\\]++"),
)
# each of CREDENTIALS has so many of these characters in a row, and prose hardly ever
WORD = b"w" * 15
WORDS = bytes(ord("w") if chr(code).isalnum() and code < 128 or code in b"_-" else ord(" ") for code in range(256))
LONG = 4096  # from so many bytes on it pays to leave out what need not be looked at
LITERALS = tuple(literal for literals, _ in CREDENTIALS for literal in literals)
# a rare character of each credential, which is found faster than a word is, and how it goes on from there
TRACES = tuple(
    (character, re.compile(character + pattern))
    for character, pattern in (
        (
            b"-",
            rb"(?:(?=[A-Za-z0-9_-]{10})(?:(?<=sk-)|(?<=xai-)|(?<=xox[abprs]-)|(?<=glpat-)|(?<=pypi-)|(?<=pplx-)|(?<=nvapi-)"
            rb"|(?<=xapp-)|(?<=tvly-))|(?=BEGIN [A-Z ]*PRIVATE)|(?=[Kk]ey: )|(?=[Cc]ookie: ))",
        ),
        (
            b"_",
            rb"(?=[A-Za-z0-9_]{16})(?:(?<=gsk_)|(?<=hf_)|(?<=gh[pousr]_)|(?<=github_pat_)|(?<=k_live_)|(?<=k_test_)|(?<=npm_)|(?<=r8_)"
            rb"|(?<=fw_)|(?<=dop_v1_)|(?<=lsv2_)|(?<=shpat_)|(?<=shpss_)|(?<=ntn_))",
        ),
        (b"J", rb"(?<=eyJ)"),
        (b"A", rb"(?:(?<=AKIA)|(?<=ASIA)|(?=TATT3))"),
        (b"z", rb"(?<=AIz)"),
        (b"B", rb"(?:(?=earer )|(?=asic [A-Za-z0-9+/]{12}))"),
        (b"G", rb"(?<=SG)\.[A-Za-z0-9_-]{16}"),
        (b"=", rb"(?<=[dDeElLnNtTyYgG ]=) ?['\"]?[A-Za-z0-9_%+/-]{16}"),
        (b"C", rb"(?=ookie: )"),
    )
)
MEMBER_NAME = re.compile(rb'(?x) " (?=[xoarbscpiXOARBSCPI]) (?i: ' + NAME + rb' ) \\{0,7}+ "')
FEW_QUOTES = 48  # bytes to each; where there are more, a look into a set costs less
FEW = 32  # places that are looked at one by one
LONGEST_NAME = max(map(len, SECRET_MEMBERS))
HARMLESS, LONGEST_HARMLESS = 4096, 64  # so many words, and characters of one
_harmless: set[bytes] = set()  # long words that are no credentials: names of members and models, again and again


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
    for literal, pattern in PLACED:
        if literal in seen:
            content = compiled(pattern).sub(rb"\1" + MARK_BYTES, content)
    if b"=" in seen:
        content = compiled(VALUE).sub(assigned, content)
    if len(seen) > max(LONG, LONGEST_NAME * seen.count(b'"')):  # long texts
        seen = b'"'.join([piece for piece in seen.split(b'"') if len(piece) <= LONGEST_NAME])
    named = SECRET_MEMBERS.intersection(seen.lower().split(b'"'))
    if not NAMES.isdisjoint(named):
        content = compiled(SECRET_MEMBER).sub(rb'\1"' + MARK_BYTES + b'"', content)
    if not NAMES.issuperset(named):
        content = compiled(ESCAPED_MEMBER).sub(rb"\1" + MARK_BYTES, content)
    return content


def assigned(value: re.Match[bytes]) -> bytes:
    """The mark in place of a value that a name of a credential stands before."""
    start = value.start()
    if compiled(ASSIGNED).search(value.string, max(0, start - LONGEST_ASSIGNED), start) is None:
        return value.group()
    return b"=" + value.group(1) + MARK_BYTES


def holds_credentials(content: bytes, *, repeats: bool = True) -> bool:
    """Whether :func:`without_credentials` may find something that looks like a credential: a cheaper look.

    Args:
        content: A text.
        repeats: Whether it may be a stream, whose events repeat each other.
    """
    return looks_suspicious(once(content) if repeats else content)


def is_secret_member(name: object) -> bool:
    """Whether the value of a member of this name is a credential."""
    return isinstance(name, str) and len(name) <= LONGEST_NAME and name.lower().encode("utf-8", "replace") in NAMES


@lru_cache(maxsize=1024)
def is_secret_property(name: str) -> bool:
    """Whether the value of a property of this name is a credential."""
    return is_secret_member(name) or name.lower().encode("utf-8", "replace") in PASSWORDS


def once(content: bytes) -> bytes:
    """*content*, where it is long without what the lines of a stream repeat."""
    return content if len(content) < LONG else distinct(content)


def looks_suspicious(content: bytes) -> bool:
    short = len(content) <= LONG
    for character, trace in TRACES:
        if character in content and (trace.search(content) if short else found(content, character, trace)):
            return True
    if b"@" in content and b"://" in content and compiled(USER_INFO + PASSWORD).search(content):
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
