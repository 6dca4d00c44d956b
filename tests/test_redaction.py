"""What is never stored: credentials by their looks, by their place and by being those of the very call."""

import json

import pytest

from asgi_llmobs.errors import ConfigError
from asgi_llmobs.redaction import MARK, Redactor, safe_text, safe_url, secrets_of, seen_headers, without_secrets


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcdefghij0123456789",
        "sk-ant-api03-abcdefghijklmnop",
        "AIzaSyA0123456789abcdefghijklmnopqrstuv",
        "AKIAABCDEFGHIJKLMNOP",
        "gsk_0123456789abcdefghijkl",
        "xai-0123456789abcdefghijkl",
        "hf_0123456789abcdefghijkl",
        "ghp_0123456789abcdefghijklmnopqrstuv",
        "xoxb-1234567890-abcdef",
        "eyJhbGciOiJIUzI1NiIsInR5.eyJzdWIiOiIxMjM0NTY3.SflKxwRJSMeKKF2",
        "Bearer abcdefghijklmnop",
    ],
)
@pytest.mark.parametrize("around", ["{}", 'key "{}",', "x={}&y", "say {} twice {}", "{}\n" + "long " * 3000])
def test_known_by_their_looks(secret, around):
    """Wherever in a text they stand, written as it is or as JSON."""
    text = around.format(secret, secret)
    for written in (text, json.dumps(f"line\n{text}"), json.dumps(f"é{text}")):
        safe = safe_text(written)

        assert secret not in safe and MARK in safe


@pytest.mark.parametrize(
    "text",
    ["ask-me-anything-about-this-thing", "skip", "The Bearer of news", "hf_", "sk-short", "", "\ud800 lone", "\0"],
)
def test_what_is_no_credential_stays(text):
    """Words that only look a little like one."""
    assert safe_text(text) == text


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "apiKey",
        "API_KEY",
        "x-api-key",
        "access_token",
        "client_secret",
        "Authorization",
        "aws_secret_access_key",
    ],
)
def test_known_by_their_place(name):
    """The member of a body that is called so."""
    safe = Redactor().body(json.dumps({"model": "m", name: 'any"thing\\', "after": 1}).encode())

    assert json.loads(safe) == {"model": "m", name: MARK, "after": 1}


def test_members_that_only_sound_alike_stay():
    """Counts of tokens, schemas that describe a key, names in lists."""
    content = (
        b'{"max_tokens": "5", "prompt_cache_key": "k", "p": {"api_key": {"type": "string"}}, "required": ["api_key"]}'
    )

    assert Redactor().body(content) is content


def test_known_as_those_of_the_call():
    """What the request carries is taken out of everything that quotes it, unless it is too short to tell."""
    headers = [
        (b"Authorization", b"Bearer local-secret-123"),
        (b"cookie", b"a=first-cookie-value; b=second-cookie-value"),
        (b"x-api-key", b"ollama"),
    ]
    secrets = secrets_of(headers, "https://me:password-of-me@h.test/?key=query-key-12345&q=not-a-secret-at-all")
    text = "local-secret-123 first-cookie-value query-key-12345 password-of-me ollama not-a-secret-at-all"

    assert b"b=second-cookie-value" in secrets
    assert safe_text(text, secrets).split()[-2:] == ["ollama", "not-a-secret-at-all"]
    assert "local-secret" not in safe_text(text, secrets) and "query-key" not in safe_text(text, secrets)
    assert "password-of-me" not in safe_text(text, secrets)


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://u:p@h.test/x?key=K&alt=sse", f"https://h.test/x?key={MARK}&alt=sse"),
        ("https://h.test/x?X-Amz-Signature=abc&X-Amz-Date=1", f"https://h.test/x?X-Amz-Signature={MARK}&X-Amz-Date=1"),
        ("https://h.test/a?sig=1&sv=2", f"https://h.test/a?sig={MARK}&sv=2"),
        ("http://[::1]:80/x#fragment", "http://[::1]:80/x"),
        ("http://[broken", MARK),
        ("", ""),
    ],
)
def test_addresses(url, safe):
    """No user info, no values of parameters that name a secret."""
    assert safe_url(url) == safe


def test_headers():
    """Of a request the harmless ones, of a response all but the secret ones, and nowhere a credential."""
    secrets = (b"canary-secret",)
    request = [(b"Authorization", b"x"), (b"X-Custom", b"y"), (b"Content-Type", b"application/json")]
    response = [(b"Set-Cookie", b"x"), (b"x-echo", b"it is canary-secret"), (b"Location", b"https://u:p@h/?key=v")]

    for _ in range(2):  # also those that are known by now
        sent, got = seen_headers(request, response=False), seen_headers(response, response=True)

        assert sent.kept == (("content-type", "application/json"),)
        assert sent.by_name == {"authorization": "x", "x-custom": "y", "content-type": "application/json"}
        assert sent.secret == [(b"authorization", b"x")]
        assert without_secrets(got.kept, secrets) == (
            ("x-echo", f"it is {MARK}"),
            ("location", f"https://h/?key={MARK}"),
        )


def test_headers_with_credentials():
    """What looks like one is taken out, and harmless ones beside it stay."""
    headers = [(b"x-a", b"sk-" + b"a" * 30), (b"x-b", b"plain"), (b"x-c", b"y" * 2_000)]

    for _ in range(2):
        assert seen_headers(headers, response=True).kept == (("x-a", MARK), ("x-b", "plain"), ("x-c", "y" * 1_000))
        assert seen_headers(headers, response=True).by_name["x-a"].startswith("sk-")


def test_patterns_of_the_app():
    """Also what the body writes in escapes."""
    redactor = Redactor(["Müller", r"\d{4}-\d{4}", r"a\+b@c"])
    body = json.dumps({"name": "Müller", "card": "1234-5678", "tab": "x\ty", "q": '"'}).encode()

    assert json.loads(redactor.body(body)) == {"name": MARK, "card": MARK, "tab": "x\ty", "q": '"'}
    assert redactor.body(b'"a\\u002Bb@c"') == f'"{MARK}"'.encode()
    assert redactor.body(b'"\\\\u0041"') == b'"\\\\u0041"'


@pytest.mark.parametrize("answer", [None, "text", ValueError("x"), RecursionError()])
def test_a_rule_that_fails_withholds(answer):
    """It fails closed."""

    def rule(content):
        if isinstance(answer, BaseException):
            raise answer
        return answer

    assert Redactor(rule).body(b"secret") == b'"[withheld: redaction failed]"'
    assert "secret" not in Redactor(rule).text("secret")


def test_f26_a_rule_that_takes_too_long(monkeypatch):
    """It has so much time for a record; what it takes more is missing for the next ones, whose texts are withheld."""
    clock = [0.0]
    monkeypatch.setattr("asgi_llmobs.redaction.time.monotonic", lambda: clock[0])

    def rule(content):
        clock[0] += float(content)
        return b"clean"

    redactor = Redactor(rule)
    got = []
    for texts in ([b"0.4", b"0.4"], [b"0.9", b"2.5", b"0"], [b"0"], [b"0"], [b"0.1"]):
        redactor.next_record()
        got.append([redactor.body(text) == b"clean" for text in texts])

    assert got == [[True, True], [True, True, False], [False], [False], [True]]
    assert Redactor(rule).body(b"100") == b"clean"  # where nobody tells of records


@pytest.mark.parametrize("rule", ["a string", ["("], [b"bytes"]])
def test_wrong_rules_are_told_at_construction(rule):
    """With the option's name."""
    with pytest.raises(ConfigError, match="redact"):
        Redactor(rule)


@pytest.mark.parametrize("place", [0, 1, 2, 100, 199])
def test_in_a_stream(place):
    """Of many events that are alike, a credential in one is taken out, and the value of a member that one has."""
    events = [{"id": "c", "choices": [{"delta": {"content": f" {number}"}}]} for number in range(200)]
    key = f"sk-{'a1' * 12}"
    events[place] = {"id": "c", "choices": [{"delta": {"content": f" {key}"}}]}
    events[place - 1] = {"id": "c", "choices": [{"delta": {"content": " 0", "api_key": "hidden-value"}}]}
    safe = Redactor().body(b"\n\n".join(b"data: " + json.dumps(one).encode() for one in events))

    assert key.encode() not in safe and b"hidden-value" not in safe
    assert safe.count(MARK.encode()) == 2 and safe.count(b'"content": " ') == 200


def test_words_that_were_harmless():
    """A long word that was looked at once is not taken for one that is a credential."""
    for _ in range(2):
        assert safe_text("completion_tokens_details") == "completion_tokens_details"
        assert safe_text(f"completion_tokens_details sk-{'b2' * 12}") == f"completion_tokens_details {MARK}"


@pytest.mark.parametrize("before", [b"", b"- _ J A z B " * 500, b'"a" ' * 2_000, b"prose " * 2_000])
@pytest.mark.parametrize(
    "credential", [b"sk-" + b"a" * 30, b"AKIA" + b"B" * 16, b"Bearer " + b"c" * 20, b'"api_key": "value"']
)
def test_in_long_texts(before, credential):
    """However much stands before a credential, and however often what one begins with."""
    content = before + b" " + credential + b" " + before
    safe = Redactor().body(content)

    assert MARK.encode() in safe and credential not in safe
    assert Redactor().body(before + before) == before + before
