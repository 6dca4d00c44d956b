"""Every option in one table: name, default and help; environment variables, docs and command line derive from it."""

import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import FrozenInstanceError, field, fields
from typing import Any, Literal
from urllib.parse import urlsplit

from asgi_llmobs.errors import ConfigError
from asgi_llmobs.frozen import record
from asgi_llmobs.limits import Plan

__all__ = [
    "OPTIONS",
    "VARIABLES",
    "Config",
    "Option",
    "data_dir_of",
    "environment_name",
    "make_data_dir",
    "network_of",
    "truthy",
    "without_password",
]

FALSE_WORDS = {"", "0", "false", "no", "off"}
TRUE_WORDS = {"1", "true", "yes", "on"}
MEMORY = "sqlite://"


def truthy(value: str | None) -> bool:
    """Whether the text of an environment variable means yes."""
    return value is not None and value.strip().lower() not in FALSE_WORDS


def network_of(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The network that an address, or an address with a prefix length, stands for; ``None`` where it is neither."""
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return None


def option(default: Any, help_text: str, *, env: str | None = None, parse: str = "text") -> Any:
    return field(default=default, metadata={"help": help_text, "env": env, "parse": parse})


@record(frozen=True, repr=False, kw_only=True)
class Config:
    """The options of one engine. ``Config.make(...)`` fills what is not given from the environment."""

    store: str | None = option(
        None,
        "Database URL: sqlite:///path or postgresql://… . Default: .llmobs/llmobs.db in the working directory; in "
        "memory under pytest.",
        env="LLMOBS_DATABASE_URL",
    )
    read_url: str | None = option(
        None,
        "URL of a read replica of a PostgreSQL store: pages and queries read from there, all else from the store.",
    )
    project: str = option("default", "The isolation boundary that what is captured belongs to.")
    enabled: bool = option(True, "False: capture nothing, start nothing, serve the admin only.", parse="bool")
    capture: Literal["full", "metadata", "off"] = option(
        "full", "full: bodies too. metadata: tokens, cost, times, no bodies and no text. off: nothing.", parse="choice"
    )
    instrument: Literal["auto", "off"] = option(
        "auto", "auto: every httpx and httpx2 client is watched. off: only clients given to wrap().", parse="choice"
    )
    redact: Callable[[bytes], bytes] | Sequence[str] | None = option(
        None, "A callable over body bytes, or regular expressions whose matches are replaced, before storage."
    )
    sample: float = option(1.0, "Share of traces whose calls are kept, 0.0 to 1.0.", parse="float")
    record: Callable[[str, str], bool | None] | None = option(
        None, "A callable (method, url) that says True or False whether a call is an LLM call, None to leave it to us."
    )
    session: Callable[[Any], str | None] | None = option(
        None, "A callable over the incoming scope that names the session, or None."
    )
    user: Callable[[Any], str | None] | None = option(
        None, "A callable over the incoming scope that names the user, or None."
    )
    retention: str | Mapping[str, str] | None = option(
        None,
        "What is kept: an age, a size, a count of spans or several of these, e.g. 30d,2GB,bodies=7d; for several "
        "projects a mapping of names to these, in a text with semicolons: shop: 90d; *: 30d.",
    )
    providers: Sequence[Any] = option((), "Further providers, asked before ours.")
    prices: Mapping[str, Any] | None = option(
        None,
        "Own prices by model pattern, in dollars per million tokens: "
        '{"my-model*": {"input": 1.0, "output": 2.0, "cache_read": 0.1, "from": "2026-01-01"}}.',
    )
    trust_inbound: bool | Sequence[str] = option(
        False,
        "Whether LLMObs-*, Helicone-* and traceparent headers of incoming requests are believed: True, or the "
        "addresses and networks of trusted peers.",
        parse="trust",
    )
    max_body: int = option(2 * 1024 * 1024, "Bytes kept of one body; of a longer one head and tail.", parse="int")
    buffer_bytes: int = option(
        32 * 1024 * 1024, "Bytes of finished calls that may wait for the writer; beyond, bodies go first.", parse="int"
    )
    data_dir: str | None = option(
        None,
        "Folder of what waits to be stored. Default: that of the SQLite file, else .llmobs in the working directory.",
    )
    spool_bytes: int = option(
        256 * 1024 * 1024,
        "Bytes of files in which each process lets calls wait for the store, so that they survive a killed process; "
        "beyond, bodies go first. 0: wait in memory only.",
        parse="int",
    )
    admin: str | None = option("/_llmobs", "Where the middleware serves the admin; None or empty: nowhere.")
    auth: Any = option(None, "Who may open the admin: see asgi_llmobs.auth.")
    export: Any = option(
        None,
        "Where records go besides the store, as OpenTelemetry spans and metrics: the address of an OTLP endpoint, a "
        "tracer or meter provider of OpenTelemetry's SDK, or a list of these.",
    )
    service: str | None = option(None, "Name of this service, shown at every span.")
    release: str | None = option(
        None, "Version of this service, shown at every span; the commit that .git names unless given."
    )
    trace_header: bool = option(False, "Send x-llmobs-trace-id with every response of the app.", parse="bool")
    estimate_tokens: bool = option(
        True, "Estimate, marked as such, the tokens of a stream that does not report its usage.", parse="bool"
    )
    origins: Mapping[str, str] = field(
        default_factory=dict, repr=False, compare=False
    )  # argument, environment; by name

    def __post_init__(self) -> None:
        for name, allowed in (("capture", ("full", "metadata", "off")), ("instrument", ("auto", "off"))):
            if getattr(self, name) not in allowed:
                raise ConfigError(name, f"{getattr(self, name)!r} is not one of {', '.join(allowed)}")
        for name in ("enabled", "trace_header", "estimate_tokens"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(name, f"{getattr(self, name)!r} is neither True nor False")
        project: Any = self.project
        if not isinstance(project, str) or not project.strip() or len(project) > 200:
            raise ConfigError("project", "give a name of 1 to 200 characters")
        sample: Any = self.sample
        if isinstance(sample, bool) or not isinstance(sample, int | float) or not 0 <= sample <= 1:
            raise ConfigError("sample", f"{sample!r} is not a share between 0.0 and 1.0")
        for name in ("max_body", "buffer_bytes"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1024:
                raise ConfigError(name, f"{value!r} is not a number of bytes of at least 1024")
        size: Any = self.spool_bytes
        if not isinstance(size, int) or isinstance(size, bool) or size < 0 or 0 < size < 16 * 1024 * 1024:
            raise ConfigError("spool_bytes", f"{size!r} is neither 0 nor a number of bytes of at least 16777216")
        for name in ("record", "session", "user"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise ConfigError(name, f"give a callable or None, not {type(value).__name__}")
        for name in ("service", "release", "data_dir"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ConfigError(name, f"give a text or None, not {type(value).__name__}")
        if self.retention is not None:
            Plan.parse(self.retention)
        self._check_admin()
        self._check_trust()
        self._check_store()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self):  # set at construction; what is set later would reach some of the parts only
            raise FrozenInstanceError(f"cannot change the option {name!r} of an engine")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        """What is not the default, without what is or may hold a secret: it ends up in logs and error reports."""
        changed = (item for item in OPTIONS if getattr(self, item.name) != item.default)
        return f"Config({', '.join(f'{item.name}={item.shown(getattr(self, item.name))!r}' for item in changed)})"

    def _check_admin(self) -> None:
        path: Any = self.admin
        if path and (not isinstance(path, str) or not path.startswith("/") or not path.strip("/") or "//" in path):
            raise ConfigError("admin", f"{path!r} is not a path such as /_llmobs; None switches it off")

    def _check_trust(self) -> None:
        rule = self.trust_inbound
        if isinstance(rule, bool):
            return
        if isinstance(rule, str) or not isinstance(rule, Sequence):
            raise ConfigError("trust_inbound", "give True, False or a list of addresses and networks")
        entries: Sequence[Any] = rule
        for entry in entries:
            # a name is what some servers and test clients give for an address; a mistyped network is not a name
            if not isinstance(entry, str) or network_of(entry) is None and not re.fullmatch(r"[A-Za-z][\w.-]*", entry):
                raise ConfigError("trust_inbound", f"{entry!r} is no address or network; write 10.0.0.0/8 or ::1")

    def _check_store(self) -> None:
        read_url: Any = self.read_url
        if read_url is not None and not (isinstance(read_url, str) and (self.store or "").startswith("postgres")):
            raise ConfigError("read_url", "a replica belongs to a store on PostgreSQL; name that too, or leave it out")
        if read_url is not None and not read_url.startswith("postgres"):
            raise ConfigError("read_url", "give the URL of a PostgreSQL server, postgresql://user@host/name")
        if self.store is None:
            return
        if not isinstance(self.store, str):
            raise ConfigError("store", "give a database URL such as sqlite:///llmobs.db or postgresql://host/name")
        scheme = urlsplit(self.store).scheme.split("+")[0]
        if scheme not in ("sqlite", "postgresql", "postgres"):
            raise ConfigError(
                "store",
                f"{scheme or self.store!r} is no database that we know; write sqlite:///path/llmobs.db or "
                "postgresql://user@host/name",
            )

    @classmethod
    def make(cls, environ: Mapping[str, str] | None = None, **given: Any) -> "Config":
        """The options *given*, then the environment, then the defaults.

        Args:
            environ: Where variables are looked up; ``os.environ`` unless given.
            **given: Options by name. ``None`` counts as given only where ``None`` has a meaning (``admin``, ``auth``).

        Raises:
            ConfigError: An option is unknown or its value cannot work.
        """
        environ = os.environ if environ is None else environ
        known = {item.name: item for item in OPTIONS}
        for name in given:
            if name not in known:
                raise ConfigError(name, f"there is no such option; the options are {', '.join(known)}")
        values, origins = dict(given), {}
        for item in OPTIONS:
            if item.name in values and (values[item.name] is not None or item.name == "admin"):
                origins[item.name] = "argument"
                continue
            text = environ.get(item.env)
            if text is not None and item.parse is not None:
                values[item.name] = item.read(text)
                origins[item.name] = "environment"
            elif item.name in values:
                del values[item.name]
        return cls(**values, origins=origins)


@record(frozen=True, kw_only=True)
class Option:
    """One row of the table."""

    name: str
    default: Any
    help: str
    env: str
    parse: str | None

    def read(self, text: str) -> Any:
        """The value that the text of an environment variable stands for."""
        text = text.strip()
        if self.parse == "bool":
            if text.lower() in FALSE_WORDS | TRUE_WORDS:
                return truthy(text)
            raise ConfigError(self.name, f"{self.env}={text!r} is neither true nor false")
        if self.parse in ("int", "float"):
            try:
                number = int(text) if self.parse == "int" else float(text)
                if math.isfinite(number):
                    return number
                raise ValueError
            except (ValueError, OverflowError):
                raise ConfigError(self.name, f"{self.env}={text!r} is not a number") from None
        if self.parse == "trust":
            if text.lower() in FALSE_WORDS | TRUE_WORDS:
                return truthy(text)
            return tuple(part.strip() for part in text.split(",") if part.strip())
        return text or None

    def shown(self, value: Any) -> str:
        """*value* for people: of what is or may hold a secret only whether it is set, of an address no password."""
        if value is None or value == () or value == {}:
            return "not set"
        if isinstance(value, str):
            return without_password(value) if "://" in value else value
        if self.name == "export" and isinstance(value, list | tuple):
            return ", ".join(self.shown(each) for each in value)
        if self.parse is None or not isinstance(value, bool | int | float | Sequence | Mapping):
            return "set"
        if isinstance(value, Mapping):
            return "; ".join(f"{name}: {each}" for name, each in value.items())
        return ", ".join(map(str, value)) if isinstance(value, Sequence) else str(value)


def without_password(url: str) -> str:
    """An address with neither user and password nor a query, in which they may stand too."""
    try:
        host = urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return "set"
    return re.sub(r"^([^:]+://)[^/]*", lambda found: found.group(1) + host, url.partition("?")[0])


def environment_name(name: str) -> str:
    """The environment variable of the option *name*."""
    return f"LLMOBS_{name.upper()}"


NOT_FROM_ENVIRONMENT = {"record", "session", "user", "providers", "prices", "auth", "redact"}

OPTIONS: tuple[Option, ...] = tuple(
    Option(
        name=item.name,
        default=item.default,
        help=item.metadata["help"],
        env=item.metadata["env"] or environment_name(item.name),
        parse=None if item.name in NOT_FROM_ENVIRONMENT else item.metadata["parse"],
    )
    for item in fields(Config)
    if "help" in item.metadata
)

# variables that are no options: who may open the admin is not for code to say
VARIABLES: Mapping[str, str] = {
    "LLMOBS_DEV": "1: this is development; the admin is open to visitors from this machine",
    "LLMOBS_STRICT": "1: the admin always asks for a sign-in",
    "LLMOBS_ADMIN_TOKEN": "what opens the admin",
    "LLMOBS_ADMIN_PASSWORD": "the same, to be typed",
    "LLMOBS_INGEST_TOKEN": "what lets other processes send traces in",
}


def make_data_dir(folder: str) -> None:
    """Make a folder for data that only its owner opens and that no version control takes in, where there is none.

    Raises:
        OSError: It cannot be made.
    """
    if not os.path.isdir(folder):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.chmod(folder, 0o700)
        with open(os.path.join(folder, ".gitignore"), "w", encoding="utf-8") as ignore:
            ignore.write("*\n")


def data_dir_of(store: str) -> str | None:
    """The folder of a SQLite file, ``None`` for anything else."""
    if not store.startswith("sqlite") or store in (MEMORY, "sqlite:///:memory:"):
        return None
    path = store.split("///", 1)[-1].split("?")[0]
    return os.path.dirname(os.path.abspath(path))
