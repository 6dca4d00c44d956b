"""What is never stored: credentials by their looks, by their place and by being those of the very call."""

import base64
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
        "csk-0123456789abcdefghijklmnopqrstuv",
        "pplx-0123456789abcdefghijklmnopqrstuv",
        "nvapi-0123456789abcdefghijklmnopqrstuv",
        "tvly-dev-0123456789abcdefghijk",
        "r8_0123456789abcdefghijklmnopqrstuv",
        "fw_0123456789abcdefghijkl",
        "lsv2_pt_0123456789abcdef0123456789abcdef_0123456789",
        "glpat-0123456789abcdefghij",
        "npm_0123456789abcdefghijklmnopqrstuvwxyz",
        "pypi-AgEIcHlwaS5vcmc0123456789abcdefghijk",
        "sk_live_0123456789abcdefghijkl",
        "rk_live_0123456789abcdefghijkl",
        "shpat_0123456789abcdef0123456789abcdef",
        "ntn_0123456789abcdefghijklmnopqrstuvwxyz",
        "dop_v1_0123456789abcdef0123456789abcdef0123456789abcdef",
        "ATATT3xFfGF00123456789abcdefghijklmnop",
        "xapp-1-A0123456789-0123456789",
        "SG.0123456789abcdefghij.0123456789abcdefghijklmnop",
        "Basic dXNlcjpwYXNzd29yZA==",
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
    [
        "ask-me-anything-about-this-thing",
        "skip",
        "The Bearer of news",
        "hf_",
        "sk-short",
        "",
        "\ud800 lone",
        "\0",
        "Basic internationalization",
        "sort(key=lambda_of_everything_2)",
        "api_key=os.environ['OPENAI_API_KEY']",
        "token=tokenizer.eos_token_id",
        "secret=the_name_of_some_variable",
        "private_key = Ed25519PrivateKey2.generate()",
        "api_key=read_key_number_2_of(me)",
        "https://h:8080/a@b and mailto:a@b.test",
        "-----BEGIN CERTIFICATE-----",
        "cookie: flour, sugar and butter",
        "{'password': None}",
        '{"name": "fill_form", "arguments": {"password": "correct horse 1"}}',
        'curl -H "x-api-key: $ANTHROPIC_API_KEY"',
        "api-key: YOUR_API_KEY_HERE",
        "Monkey: a primate that eats",
        "a=0123456789abcdef0123456789abcdef",
    ],
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


PLACED = "0a1B2c3D4e5F6g7H8i9J"


@pytest.mark.parametrize(
    "text",
    [
        "OPENAI_API_KEY={}",
        "aws_secret_access_key = {}",
        "curl -H 'x-api-key: {}'",
        "Cookie: theme=dark; sid={}",
        "Set-Cookie: sid={}; HttpOnly",
        "client(api_key='{}')",
        "see https://h.test/x?api_key={}&b=c",
        "https://b.s3.test/k?X-Amz-Credential={}%2Fs3&X-Amz-Date=1&X-Amz-Signature={}",
        "https://b.blob.test/k?sv=1&sig={}%3D",
        "postgresql://me:{}@db.test/x",
        "-----BEGIN RSA PRIVATE KEY-----\n{}\n{}==\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_known_by_what_stands_before(text):
    """Assignments, parameters of addresses, lines of headers, keys: as they are, in JSON, and in JSON of JSON."""
    whole = text.format(PLACED, PLACED)
    for written in (whole, json.dumps(whole), json.dumps(json.dumps([whole])), "long " * 3000 + whole):
        safe = safe_text(written)

        assert PLACED not in safe and MARK in safe
        assert not written.startswith('"') or isinstance(json.loads(safe), str)


@pytest.mark.parametrize("name", ["api_key", "secret_key", "aws_session_token"])
def test_members_in_a_text_of_json(name):
    """The arguments of tools are JSON in a JSON text, and may hold some again."""
    text = json.dumps({name: PLACED, "city": "Oslo"})
    for _ in range(3):
        text = json.dumps({"arguments": text})
        safe = safe_text(text)

        assert PLACED not in safe and MARK in safe and "Oslo" in safe
        json.loads(safe)


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
    assert "first-cookie-value" not in safe_text(text, secrets)
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


@pytest.mark.parametrize(
    "name", [b"X-Portkey-Api-Key", b"cf-aig-authorization", b"X-Vault-Token", b"x-rapidapi-key", b"x-litellm-auth"]
)
def test_headers_by_their_names(name):
    """What a gateway calls its key: never kept of an answer, and taken out of whatever quotes it."""
    for _ in range(2):
        seen = seen_headers([(name, PLACED.encode()), (b"x-ratelimit-remaining-tokens", b"1")], response=True)

        assert seen.kept == (("x-ratelimit-remaining-tokens", "1"),)
        assert secrets_of(seen.secret, "") == (PLACED.encode(),)


def test_password_of_basic_authentication():
    """Also where an answer quotes it without its coding."""
    coded = base64.b64encode(b"me:" + PLACED.encode())

    assert PLACED.encode() in secrets_of([(b"authorization", b"Basic " + coded)], "")
    assert secrets_of([(b"authorization", b"Basic ?")], "") == ()


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
