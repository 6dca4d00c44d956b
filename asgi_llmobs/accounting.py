"""What an engine has counted: exact numbers of one moment, and the same as OpenTelemetry metrics of the host."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = ["Observed", "Stats", "host_meter_provider", "register"]

METER = "asgi_llmobs"
Observed = Iterable[tuple[str, "Stats"]]  # by project


class Stats(NamedTuple):
    """Exact counters of this process; ``captured == stored + spooled + sum(dropped.values())``.

    ``captured`` counts finished calls, spans and scores. ``failures`` are exceptions in our own code, by part; none
    reached the app. ``adopted`` of the captured ones were left behind by processes that died; ``damaged`` counts what
    could not be read of their files. ``durable`` says whether what is captured now would outlive a killed process,
    ``trouble`` why not, where it was meant to.

    Beside that stands what other processes sent and what goes out to others: ``ingested`` spans and logs were stored,
    ``refused`` ones not, by reason; ``exported`` records went out, ``unexported`` ones were given up, by reason.

    What it costs: ``writer_cpu_ns`` is the CPU time that the writer thread has used, ``batches`` how many it wrote,
    ``batch_ns`` how long the last one took, ``caller_ns`` what the beginning and the end of a call cost the app (the
    median of a sample; ``None`` before the first), ``queue_age_ns`` for how long the oldest that waits has waited.
    """

    captured: int
    stored: int
    spooled: int
    dropped: Mapping[str, int]
    bodies_dropped: int
    spooled_bytes: int
    open: int
    adopted: int
    damaged: Mapping[str, int]
    durable: bool
    failures: Mapping[str, int]
    last_error: str | None
    writer_cpu_ns: int
    batches: int = 0
    batch_ns: int = 0
    caller_ns: int | None = None
    queue_age_ns: int = 0
    trouble: str | None = None
    ingested: int = 0
    refused: Mapping[str, int] = MappingProxyType({})
    exported: int = 0
    unexported: Mapping[str, int] = MappingProxyType({})


def seconds(nanoseconds: int) -> float:
    return nanoseconds / 1e9


# name, unit, what it is, and its value
COUNTERS: tuple[tuple[str, str, str, Callable[[Stats], float]], ...] = (
    ("llmobs.captured", "{record}", "Finished calls and spans that were captured", lambda stats: stats.captured),
    ("llmobs.stored", "{record}", "Captured ones that are in the store", lambda stats: stats.stored),
    ("llmobs.adopted", "{record}", "Captured ones that dead processes left behind", lambda stats: stats.adopted),
    ("llmobs.bodies_dropped", "{record}", "Calls whose bodies were given up", lambda stats: stats.bodies_dropped),
    ("llmobs.ingested", "{record}", "Spans and logs of other processes that were stored", lambda stats: stats.ingested),
    ("llmobs.exported", "{record}", "Records that went out to a collector", lambda stats: stats.exported),
    ("llmobs.batches", "{batch}", "Batches that were stored", lambda stats: stats.batches),
    ("llmobs.writer.cpu_time", "s", "CPU time of the writer", lambda stats: seconds(stats.writer_cpu_ns)),
)
BY_NAME: tuple[tuple[str, str, str, str, Callable[[Stats], Mapping[str, int]]], ...] = (
    ("llmobs.dropped", "{record}", "Captured ones that were given up", "reason", lambda stats: stats.dropped),
    ("llmobs.refused", "{record}", "Spans of other processes that were not", "reason", lambda stats: stats.refused),
    ("llmobs.unexported", "{record}", "Records that did not go out", "reason", lambda stats: stats.unexported),
    ("llmobs.failures", "{failure}", "Exceptions in our own code", "part", lambda stats: stats.failures),
)
GAUGES: tuple[tuple[str, str, str, Callable[[Stats], float]], ...] = (
    ("llmobs.spooled", "{record}", "Captured ones that wait to be stored", lambda stats: stats.spooled),
    ("llmobs.spooled_bytes", "By", "What those that wait hold", lambda stats: stats.spooled_bytes),
    ("llmobs.open", "{call}", "Calls under way", lambda stats: stats.open),
    ("llmobs.queue.age", "s", "For how long the oldest has waited", lambda stats: seconds(stats.queue_age_ns)),
    ("llmobs.batch.duration", "s", "How long the last batch took", lambda stats: seconds(stats.batch_ns)),
    ("llmobs.caller.time", "s", "What a call costs the app, sampled", lambda stats: seconds(stats.caller_ns or 0)),
)


def host_meter_provider() -> Any:
    """OpenTelemetry's global meter provider, ``None`` where the host has not loaded OpenTelemetry's metrics.

    One that the host sets later gets the instruments too. Where an environment variable names the provider, asking for
    it would set it: that is left to the host, which may hand it over itself.
    """
    metrics = sys.modules.get("opentelemetry.metrics")
    if metrics is None or "OTEL_PYTHON_METER_PROVIDER" in os.environ:
        return None
    return metrics.get_meter_provider()


def register(provider: Any, read: Callable[[], Observed]) -> None:
    """Make instruments that observe the counters whenever *provider* collects; nothing is added to a call.

    Args:
        provider: An OpenTelemetry meter provider.
        read: Gives the counters, by project.
    """
    from opentelemetry.metrics import Observation  # whoever has a provider has it loaded

    meter = provider.get_meter(METER)

    def single(value: Callable[[Stats], float]) -> Callable[[Any], list[Observation]]:
        def observe(_options: Any) -> list[Observation]:
            totals: Counter[str] = Counter()
            for project, stats in read():
                totals[project] += value(stats)  # type: ignore[assignment]
            return [Observation(total, {"llmobs.project": project}) for project, total in totals.items()]

        return observe

    def by_name(label: str, values: Callable[[Stats], Mapping[str, int]]) -> Callable[[Any], list[Observation]]:
        def observe(_options: Any) -> list[Observation]:
            totals: Counter[tuple[str, str]] = Counter()
            for project, stats in read():
                totals.update({(project, name): count for name, count in values(stats).items()})
            return [
                Observation(total, {"llmobs.project": project, f"llmobs.{label}": name})
                for (project, name), total in totals.items()
            ]

        return observe

    for name, unit, help, value in COUNTERS:
        meter.create_observable_counter(name, [single(value)], unit, help)
    for name, unit, help, label, values in BY_NAME:
        meter.create_observable_counter(name, [by_name(label, values)], unit, help)
    for name, unit, help, value in GAUGES:
        meter.create_observable_gauge(name, [single(value)], unit, help)
