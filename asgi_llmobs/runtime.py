"""The engine: owns the parts and their lifetime; the only place where the write wing and the read wing meet."""

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, Unpack

from asgi_llmobs import pace
from asgi_llmobs.accounting import Stats, host_meter_provider, register
from asgi_llmobs.capture import clients, outbound, recorder
from asgi_llmobs.capture.commit import commit
from asgi_llmobs.capture.judging import Details, score_with
from asgi_llmobs.capture.recording import CallDetails, record_with
from asgi_llmobs.config import MEMORY, Config, data_dir_of
from asgi_llmobs.context import reseed
from asgi_llmobs.limits import Plan
from asgi_llmobs.pipeline import Pipeline
from asgi_llmobs.redaction import Redactor
from asgi_llmobs.replay import Replayer
from asgi_llmobs.safely import failures, reset, safely
from asgi_llmobs.scores import Value
from asgi_llmobs.spool import MemorySpool, Spool, durable_here
from asgi_llmobs.writer import Sink, Writer

__all__ = ["LLMObs", "Stats", "current_engine"]

T = TypeVar("T")
DATA_DIR = ".llmobs"
DEFAULT_STORE = f"sqlite:///{DATA_DIR}/llmobs.db"
EXPORT_SECONDS = 1.0  # that the end waits for what goes out
SERVER_SECONDS = 0.5  # that a fork waits for a batch that goes to a server
IN_MEMORY = (MEMORY, "sqlite:///:memory:")

_engines: "weakref.WeakSet[LLMObs]" = weakref.WeakSet()
_current: "LLMObs | None" = None
_observed = False


class LLMObs:
    """The engine. Making one reads the configuration and does nothing else: no I/O, no thread.

    Args:
        store: Database URL; see the option ``store``.
        **options: The options of :class:`asgi_llmobs.config.Config`; each is also an environment variable.

    Raises:
        ConfigError: An option is unknown or its value cannot work; the message names the fix.
    """

    def __init__(self, store: str | None = None, *, sinks: Sequence[Sink] | None = None, **options: Any) -> None:
        self.config = Config.make(store=store, **options)
        self._given_sinks = sinks
        self._database: Any = None
        self._admin: Any = None
        self._receiver: Any = None
        self._tracer_provider: Any = None
        self._exporter = self._make_exporter()
        self._lock = threading.Lock()
        self._admin_lock = threading.RLock()
        self._held = False
        self.spool: Spool = self._make_spool()
        self.pipeline = Pipeline(self.config, Prices(self.config), self._resource)
        self._sweeper: Any = None
        self._worker: Any = None
        self.writer = Writer(self.spool, self.pipeline, self._open_sinks, self._look_after, self._say_goodbye)
        self.spool.wake = self.writer.woken
        self.recorder = recorder.Recorder(self.config, self.spool)
        _engines.add(self)
        make_current(self)
        clients.instrument_for(self.recorder)

    def _make_spool(self) -> Spool:
        folder = self.config.data_dir or data_dir_of(self.store) or os.path.abspath(DATA_DIR)
        in_memory = self.store in IN_MEMORY or self._given_sinks is not None
        if in_memory or not self.config.spool_bytes or not durable_here():
            return MemorySpool(self.config.buffer_bytes)
        from asgi_llmobs.spool.durable import DurableSpool  # only where calls wait in files

        return DurableSpool(
            os.path.join(os.path.abspath(folder), "spool"),
            self.config.buffer_bytes,
            self.config.spool_bytes,
            origin=self._resource,
            providers=self.config.providers,
            full=self.config.capture == "full",
            redactor=Redactor(self.config.redact) if self.config.redact is not None else None,
            thread=True,
        )

    def _resource(self) -> Mapping[str, Any]:
        return {"service": self.config.service, "release": self.config.release or commit(), **recorder.origin()}

    @property
    def store(self) -> str:
        """The URL of the database in use."""
        if self.config.store is not None:
            return self.config.store
        return MEMORY if "PYTEST_VERSION" in os.environ else DEFAULT_STORE

    @property
    def database(self) -> Any:
        """The store; opened at its first use."""
        from asgi_llmobs.store.database import Database  # loads SQLAlchemy, only where it is used

        with self._lock:
            if self._database is None:
                self._database = Database(self.store, read_url=self.config.read_url)
            return self._database

    def _open_sinks(self) -> Sequence[Sink]:
        # the store first: what it does not take yet does not go out either
        return (*self._stores(), *([self._exporter] if self._exporter is not None else ()))

    def _make_exporter(self) -> Any:
        if not self.config.export:
            return None
        from asgi_llmobs.otlp.export import Exporter, targets_of  # only where something goes out

        resource = {"service.name": self.config.service, "service.version": self.config.release}
        return Exporter(targets_of(self.config.export, resource))

    @property
    def exported(self) -> Any:
        """What became of the records that go out besides: sent, waiting, dropped by reason; ``None`` without export."""
        return None if self._exporter is None else self._exporter.stats()

    def _stores(self) -> Sequence[Sink]:
        if self._given_sinks is not None:
            return self._given_sinks
        from asgi_llmobs.store.write import Sink as StoreSink  # as above

        return (StoreSink(self.database),)

    def _look_after(self) -> None:
        """What is to be done now and then, in the writer's thread."""
        observe_all()
        if self._given_sinks is not None:
            return
        self._tell()
        if self.config.retention is not None:
            self._sweep()

    def _sweep(self) -> None:
        """A step towards the retention, if one is due."""
        if self._sweeper is None:
            from asgi_llmobs.retention import Sweeper  # as above

            self._sweeper = Sweeper(self.database, Plan.parse(self.config.retention), self.config.project)
        self._sweeper.step()

    def _tell(self, *, ended: bool = False) -> None:
        """Tell the other processes what this one has counted."""
        stats = self.stats()
        if not stats.captured or not (self.writer.batches or self._worker):
            return  # the database is opened by the first batch
        if self._worker is None:
            from asgi_llmobs.store.workers import Worker  # as above

            self._worker = Worker(self.database, self.config.project)
        self._worker.tell(stats._asdict(), ended=ended)

    def _say_goodbye(self) -> None:
        if self._given_sinks is None:
            self._tell(ended=True)

    def start(self) -> None:
        """Start the writer. Nobody has to: the first finished call does it."""
        if self.config.enabled:
            self.writer.start()
            self.spool.tend()
            observe_all()
            clients.instrument_for(self.recorder)

    def wrap(self, client: T) -> T:
        """Watch one client: httpx or httpx2, sync or async, or an SDK object that holds one.

        Works in place, returns the same object, and wrapping twice changes nothing. What the client calls is recorded
        here, also where ``instrument="off"``.

        Raises:
            UnsupportedClient: It holds no httpx or httpx2 client; the message says what to do.
        """
        return clients.wrap(client, self.recorder)

    def unwrap(self, client: T) -> T:
        """Undo :meth:`wrap`; returns the same object."""
        return clients.unwrap(client)

    def transport(self, inner: Any = None) -> clients.WatchedTransport:
        """A transport around *inner*, of either family, sync or async.

        Args:
            inner: The transport that does the work; the family's own default one where ``None``.
        """
        return clients.WatchedTransport(inner, self.recorder)

    def span_processor(self) -> Any:
        """A span processor for an OpenTelemetry tracer provider of yours: spans of LLM instrumentations become nodes.

        Only spans that speak a dialect of LLM observability are taken in, and those above them.
        """
        from asgi_llmobs.capture.spans import Bridge  # loads OpenTelemetry's SDK, only where it is used

        return Bridge(self.recorder, everything=False)

    @property
    def tracer_provider(self) -> Any:
        """A tracer provider for instrumentations, whose spans go nowhere but here. It is never the global one."""
        with self._admin_lock:
            if self._tracer_provider is None:
                from asgi_llmobs.capture.spans import Bridge, make_provider  # as above

                resource = {"service.name": self.config.service, "service.version": self.config.release}
                self._tracer_provider = make_provider(Bridge(self.recorder, everything=True), resource)
            return self._tracer_provider

    def score(self, name: str, value: Value = None, **details: Unpack[Details]) -> str | None:
        """Say what you think of a span, a trace or a session; with the arguments of :func:`asgi_llmobs.score`."""
        return score_with(self.recorder, name, value, **details)

    def record_call(self, request: Any, **details: Unpack[CallDetails]) -> str | None:
        """Tell of a call after it is over; with the arguments of :func:`asgi_llmobs.record_call`."""
        return record_with(self.recorder, request, **details)

    def admin(self, *, auth: Any = None, title: str | None = None, replay: Any = None) -> Any:
        """The admin as an ASGI app, to be mounted anywhere.

        Args:
            auth: Who may look, see :mod:`asgi_llmobs.auth`; the option ``auth`` unless given.
            title: What the pages are headed with.
            replay: A client of the app's, or a function, through which operators may send recorded calls again, see
                :mod:`asgi_llmobs.replay`; unless given nobody may.

        Raises:
            ConfigError: *auth* or *replay* cannot work.
        """
        return self._made_admin(auth, title, Replayer(replay, self.flush) if replay is not None else None)

    def _made_admin(self, auth: Any, title: str | None, replayer: Replayer | None) -> Any:
        from asgi_llmobs.admin import Admin  # loads Jinja, only where the admin is used

        return Admin(
            database=self.database,
            stats=self.stats,
            config=self.config,
            auth=auth if auth is not None else self.config.auth,
            title=title,
            ingest=self._ingest(),
            replay=replayer,
        )

    def _ingest(self) -> Any:
        """Takes in what other processes send; made at its first use."""
        with self._admin_lock:
            if self._receiver is None:
                from asgi_llmobs.customlog import Ingest  # only where the admin is used

                self._receiver = Ingest(self.config, self.pipeline, self._stores, self.recorder)
            return self._receiver

    def default_admin(self, replayer: Replayer | None = None) -> Any:
        """The admin that the middleware serves; made once, with what sends calls again if that may be done."""
        with self._admin_lock:
            if self._admin is None:
                self._admin = self._made_admin(None, None, replayer)
            return self._admin

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything captured so far is stored.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            Whether everything is.
        """
        return self.writer.flush(timeout)

    async def aflush(self, timeout: float = 10.0) -> bool:
        """:meth:`flush` that does not block the event loop."""
        import anyio.to_thread  # keeps `import asgi_llmobs` light

        return await anyio.to_thread.run_sync(self.writer.flush, timeout, limiter=anyio.CapacityLimiter(1))

    def close(self, timeout: float = 2.0) -> None:
        """Flush, end the writer and close the database. A later call starts it again.

        Args:
            timeout: Seconds that the flush may take at most.
        """
        if sys.is_finalizing():  # all threads have stopped where they were, locks in hand
            return
        with safely("close"):
            self.writer.close(timeout)
            if self._exporter is not None:
                self._exporter.flush(min(timeout, EXPORT_SECONDS))
            if self._database is not None and self.store != MEMORY:
                self._database.dispose()

    def stats(self) -> Stats:
        """Exact counters of this process, at this moment."""
        counters = self.spool.counters()
        oldest = counters.oldest_clock_ns
        counters = counters._replace(bodies_dropped=counters.bodies_dropped + self.writer.bodies_dropped)
        return Stats(
            *counters[:-2],
            trouble=counters.trouble,
            failures=failures(),
            last_error=self.writer.last_error,
            writer_cpu_ns=self.writer.cpu_ns,
            batches=self.writer.batches,
            batch_ns=self.writer.batch_ns,
            caller_ns=self.recorder.caller_ns(),
            queue_age_ns=max(0, time.monotonic_ns() - oldest) if oldest is not None else 0,
        )._replace(
            **(self._receiver.counters() if self._receiver is not None else {}),
            **(self._exporter.counters() if self._exporter is not None else {}),
        )

    def metrics(self, meter_provider: Any = None) -> None:
        """The counters as OpenTelemetry metrics. The global meter provider gets them without this.

        Args:
            meter_provider: Who collects them; the global one where ``None``.
        """
        if meter_provider is None:
            observe_all()
            return
        engine = weakref.ref(self)

        def read() -> list[tuple[str, Stats]]:
            held = engine()
            return [(held.config.project, held.stats())] if held is not None else []

        register(meter_provider, read)

    def before_fork(self) -> None:
        """Hold the writer still and close the database file.

        SQLite must not be carried over a fork: a child would inherit its mutexes, maybe locked, and its notes of file
        locks that only the parent holds. What talks to a server has nothing of that, and the server may be slow.
        """
        self._held = False
        on_server = not self.store.startswith("sqlite")
        self._held = self.writer.pause(SERVER_SECONDS) if on_server else self.writer.pause()
        if self._database is not None and self.store != MEMORY and (self._held or not on_server):
            self._database.dispose()

    def after_fork(self, *, child: bool) -> None:
        """Let the writer go on; a child gets its own queue, thread and connections."""
        if not child:
            if self._held:
                self.writer.resume()
            return
        self._lock, self._admin_lock = threading.Lock(), threading.RLock()
        self.spool.reset_after_fork()
        self.writer.reset_after_fork()
        if self._exporter is not None:
            self._exporter.reset_after_fork()
        self._sweeper = self._worker = None  # the child is another process: it has no lease of its parent's
        if self._database is not None:
            self._database.reset_after_fork()


class Prices:
    """The price list, loaded in the writer thread at the first price."""

    def __init__(self, config: Config) -> None:
        self._prices = config.prices
        self._pricer: Any = None
        if config.prices:
            self._load()  # wrong prices are told at construction

    def _load(self) -> Any:
        from asgi_llmobs.pricing import Pricer  # the price data is loaded where it is needed

        self._pricer = Pricer(self._prices)
        return self._pricer

    def price(self, reading: Any, start_ns: int, url: str) -> Any:
        """See :meth:`asgi_llmobs.pricing.Pricer.price`."""
        return (self._pricer or self._load()).price(reading, start_ns, url)


def make_current(engine: LLMObs | None) -> None:
    """*engine* takes what no other engine claims."""
    global _current
    _current = engine
    recorder.set_default(engine.recorder if engine is not None else None)


def current_engine(make: Callable[[], LLMObs] | None = None) -> LLMObs | None:
    """The engine that was made last; where there is none, the one that *make* gives."""
    if _current is None and make is not None:
        return make()
    return _current


def observe_all() -> None:
    """Give OpenTelemetry's global meter provider, once the host has loaded it, the counters of all engines."""
    global _observed
    if _observed:
        return
    with safely("metrics"):
        provider = host_meter_provider()
        if provider is not None:
            _observed = True
            register(provider, observed)


def observed() -> Iterator[tuple[str, Stats]]:
    for engine in list(_engines):
        yield engine.config.project, engine.stats()


def before_fork() -> None:
    for engine in list(_engines):
        with safely("fork"):
            engine.before_fork()


def after_fork(*, child: bool) -> None:
    if child:
        reseed()
        reset()
        outbound.retries.reset_after_fork()
        pace.reset_after_fork()
    for engine in list(_engines):
        with safely("fork"):
            engine.after_fork(child=child)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=before_fork,
        after_in_parent=partial(after_fork, child=False),
        after_in_child=partial(after_fork, child=True),
    )


def wrap(client: T) -> T:
    """Watch one client with the current engine, made with default options where there is none.

    Args:
        client: httpx or httpx2, sync or async, or an SDK object that holds one.

    Returns:
        The same object.

    Raises:
        UnsupportedClient: It holds no httpx or httpx2 client.
    """
    engine = current_engine(LLMObs)
    assert engine is not None
    return engine.wrap(client)


def instrument_httpx() -> None:
    """Watch every client of httpx and httpx2, as ``instrument="auto"`` does."""
    current_engine(LLMObs)
    clients.instrument()


def uninstrument_httpx() -> None:
    """Watch only clients given to ``wrap`` from now on."""
    clients.uninstrument()
