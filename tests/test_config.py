"""Every option: its default, its variable, and what is said where it cannot work."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from asgi_llmobs import LLMObs, LLMObsMiddleware, runtime
from asgi_llmobs.config import OPTIONS, Config, data_dir_of, environment_name, network_of, truthy
from asgi_llmobs.errors import ConfigError, LLMObsError

WRONG: list[tuple[dict[str, Any], str, str]] = [
    # options, the one that is named, what to do
    ({"store": "mysql://host/db"}, "store", "sqlite:///path/llmobs.db"),
    ({"store": "llmobs.db"}, "store", "sqlite:///path/llmobs.db"),
    ({"store": 7}, "store", "database URL"),
    ({"read_url": "postgresql://replica/app"}, "read_url", "belongs to a store on PostgreSQL"),
    ({"read_url": "sqlite:///x.db", "store": "postgresql://db/app"}, "read_url", "postgresql://user@host/name"),
    ({"capture": "some"}, "capture", "full, metadata, off"),
    ({"capture": True}, "capture", "full, metadata, off"),
    ({"instrument": "always"}, "instrument", "auto, off"),
    ({"project": ""}, "project", "1 to 200"),
    ({"project": "  "}, "project", "1 to 200"),
    ({"project": "x" * 201}, "project", "1 to 200"),
    ({"project": 5}, "project", "1 to 200"),
    ({"enabled": "yes"}, "enabled", "True nor False"),
    ({"trace_header": 1}, "trace_header", "True nor False"),
    ({"sample": 1.5}, "sample", "between 0.0 and 1.0"),
    ({"sample": -0.1}, "sample", "between 0.0 and 1.0"),
    ({"sample": "0.5"}, "sample", "between 0.0 and 1.0"),
    ({"sample": True}, "sample", "between 0.0 and 1.0"),
    ({"sample": float("nan")}, "sample", "between 0.0 and 1.0"),
    ({"max_body": 10}, "max_body", "at least 1024"),
    ({"max_body": "2MB"}, "max_body", "number of bytes"),
    ({"buffer_bytes": 1.5e6}, "buffer_bytes", "number of bytes"),
    ({"buffer_bytes": True}, "buffer_bytes", "number of bytes"),
    ({"spool_bytes": 1024}, "spool_bytes", "at least 16777216"),
    ({"spool_bytes": -1}, "spool_bytes", "neither 0"),
    ({"data_dir": 5}, "data_dir", "a text or None"),
    ({"record": "openai"}, "record", "callable"),
    ({"session": "s-1"}, "session", "callable"),
    ({"user": 1}, "user", "callable"),
    ({"service": 1}, "service", "text"),
    ({"release": b"1"}, "release", "text"),
    ({"redact": "secret"}, "redact", "list of regular expressions"),
    ({"redact": ["("]}, "redact", "no regular expression"),
    ({"admin": "_llmobs"}, "admin", "/_llmobs"),
    ({"admin": "/"}, "admin", "/_llmobs"),
    ({"admin": "//x"}, "admin", "/_llmobs"),
    ({"admin": 5}, "admin", "/_llmobs"),
    ({"trust_inbound": "10.0.0.0/8"}, "trust_inbound", "list"),
    ({"trust_inbound": ["10.0.0.0/33"]}, "trust_inbound", "10.0.0.0/8"),
    ({"trust_inbound": ["10.0.0.300"]}, "trust_inbound", "10.0.0.0/8"),
    ({"trust_inbound": [None]}, "trust_inbound", "10.0.0.0/8"),
    ({"trust_inbound": 1}, "trust_inbound", "list"),
    ({"prices": {"m": {"input": "much"}}}, "prices", "input"),
    ({"databse": "x"}, "databse", "no such option"),
]


@pytest.mark.parametrize(
    ("options", "name", "advice"), WRONG, ids=[f"{n} {list(o.values())[0]!r}" for o, n, _ in WRONG]
)
def test_wrong_options(options: dict[str, Any], name: str, advice: str) -> None:
    """The error comes at construction, is ours, begins with the option, and says what to write."""
    before = runtime.current_engine()
    with pytest.raises(ConfigError) as raised:
        LLMObs(**options)
    assert isinstance(raised.value, LLMObsError) and isinstance(raised.value, ValueError)
    assert raised.value.option == name
    assert str(raised.value).startswith(f"{name}: ") and advice in str(raised.value)
    assert runtime.current_engine() is before


def test_the_middleware_takes_the_same_options() -> None:
    """It hands them to the engine that it makes, errors included."""

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    before = runtime.current_engine()
    try:
        assert LLMObsMiddleware(app, project="shop").obs.config.project == "shop"
        with pytest.raises(ConfigError, match="sample: 7"):
            LLMObsMiddleware(app, sample=7)
    finally:
        runtime.make_current(before)


VARIABLES: list[tuple[str, str, str, Any]] = [
    ("LLMOBS_DATABASE_URL", "sqlite:///x.db", "store", "sqlite:///x.db"),
    ("LLMOBS_READ_URL", "postgresql://replica/app", "read_url", "postgresql://replica/app"),
    ("LLMOBS_PROJECT", "shop", "project", "shop"),
    ("LLMOBS_ENABLED", "off", "enabled", False),
    ("LLMOBS_ENABLED", "1", "enabled", True),
    ("LLMOBS_CAPTURE", "metadata", "capture", "metadata"),
    ("LLMOBS_INSTRUMENT", " off ", "instrument", "off"),
    ("LLMOBS_SAMPLE", "0.25", "sample", 0.25),
    ("LLMOBS_RETENTION", "30d", "retention", "30d"),
    ("LLMOBS_TRUST_INBOUND", "true", "trust_inbound", True),
    ("LLMOBS_TRUST_INBOUND", "no", "trust_inbound", False),
    ("LLMOBS_TRUST_INBOUND", "10.0.0.0/8, ::1", "trust_inbound", ("10.0.0.0/8", "::1")),
    ("LLMOBS_MAX_BODY", "4096", "max_body", 4096),
    ("LLMOBS_BUFFER_BYTES", "1048576", "buffer_bytes", 1048576),
    ("LLMOBS_DATA_DIR", "/var/lib/app", "data_dir", "/var/lib/app"),
    ("LLMOBS_SPOOL_BYTES", "16777216", "spool_bytes", 16777216),
    ("LLMOBS_ADMIN", "/ops/llm", "admin", "/ops/llm"),
    ("LLMOBS_ADMIN", "", "admin", None),
    ("LLMOBS_EXPORT", "http://127.0.0.1:4318", "export", "http://127.0.0.1:4318"),
    ("LLMOBS_SERVICE", "web", "service", "web"),
    ("LLMOBS_RELEASE", "1.2", "release", "1.2"),
    ("LLMOBS_TRACE_HEADER", "yes", "trace_header", True),
    ("LLMOBS_ESTIMATE_TOKENS", "false", "estimate_tokens", False),
]


@pytest.mark.parametrize(("variable", "text", "name", "value"), VARIABLES)
def test_variables(variable: str, text: str, name: str, value: Any) -> None:
    """Each option has a variable; what is given in the code wins."""
    store = {"LLMOBS_DATABASE_URL": "postgresql://db/app"}  # which a replica cannot do without
    assert getattr(Config.make({**store, variable: text}), name) == value


def test_every_option_has_its_variable() -> None:
    """All that can be text is in the table above, by the rule for names."""
    from_environment = {option.name for option in OPTIONS if option.parse is not None}
    assert {name for _, _, name, _ in VARIABLES} == from_environment
    assert all(option.env == environment_name(option.name) or option.name == "store" for option in OPTIONS)
    assert all(option.help.endswith((".", "}")) and len(option.help) > 10 for option in OPTIONS)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("LLMOBS_ENABLED", "maybe"),
        ("LLMOBS_SAMPLE", "half"),
        ("LLMOBS_SAMPLE", "nan"),
        ("LLMOBS_SAMPLE", "2"),
        ("LLMOBS_MAX_BODY", "2MB"),
        ("LLMOBS_MAX_BODY", "9" * 5_000),
        ("LLMOBS_CAPTURE", "some"),
        ("LLMOBS_TRUST_INBOUND", "10.0.0.0/99"),
        ("LLMOBS_DATABASE_URL", "mysql://x"),
    ],
)
def test_wrong_variables(variable: str, text: str) -> None:
    """What stands in the environment is checked likewise."""
    with pytest.raises(ConfigError):
        Config.make({variable: text})


def test_what_is_given_wins_over_the_environment() -> None:
    """Code, then environment, then default; None stands for not given, but for the admin's path it means nowhere."""
    environ = {"LLMOBS_PROJECT": "env", "LLMOBS_ADMIN": "/env", "LLMOBS_SAMPLE": "0.5"}
    given = Config.make(environ, project="code", admin=None, sample=None)

    assert (given.project, given.admin, given.sample) == ("code", None, 0.5)
    assert Config.make({}) == Config()


def test_options_do_not_change() -> None:
    """A configuration is a value."""
    with pytest.raises(FrozenInstanceError):
        Config().project = "x"  # type: ignore[misc]


def test_small_things() -> None:
    """Words for yes and no, networks, and the folder of a database."""
    assert [truthy(text) for text in ("1", "yes", "TRUE", "0", "off", "", None)] == [True] * 3 + [False] * 4
    assert network_of("10.1.2.3/8") == network_of("10.0.0.0/8") and network_of("x") is None
    assert data_dir_of("sqlite:////var/x/llmobs.db") == "/var/x"
    assert data_dir_of("sqlite://") is data_dir_of("postgresql://h/d") is None


def test_no_secret_is_said() -> None:
    """Neither by the repr, which error reports hold, nor by what is wrong with an address."""
    secret = "hunter2-hunter2"
    config = Config.make(
        {}, store=f"postgresql://me:{secret}@h/x", export=f"https://me:{secret}@o/v1?key={secret}", redact=[secret]
    )

    assert secret not in repr(config) and "store='postgresql://h/x'" in repr(config)
    assert repr(Config()) == "Config()"
    with pytest.raises(ConfigError, match="export") as wrong:
        LLMObs("sqlite://", export=f"ftp://me:{secret}@h/x")
    assert secret not in str(wrong.value)
