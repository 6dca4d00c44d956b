"""What each page of the admin takes over a store of generated spans: wall and CPU time at the server, p50 and p95, and
how often it brings on a full collection of Python's objects, in a hundred visits.

    python -m benchmarks.pages --store URL [--runs 15] [--only WORD] [--table]

The store is one that `benchmarks.queries --keep` or `benchmarks.grow` left behind. Pages are asked for by ASGI, as a
server would; a detail is another one each time. The CPU time is that of this process, and that of the PostgreSQL server
where it runs on this machine too; the wall time is too long on a machine that does other work.
"""

import argparse
import asyncio
import gc
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from sqlalchemy import literal, select

from asgi_llmobs.admin import Admin
from asgi_llmobs.queries.figures import edges
from asgi_llmobs.store.database import Database
from asgi_llmobs.store.tables import SpanRow
from benchmarks.generate import RARE

LIST_MS, BOARD_MS = 150, 300  # what a page may take at p95
spans: Any = SpanRow.__table__  # type: ignore[attr-defined]


class Case(NamedTuple):
    """A page: what it is, what it may take, and the addresses that are asked for in turn."""

    name: str
    bar_ms: int
    addresses: Sequence[str]


class Took(NamedTuple):
    """Milliseconds."""

    wall_p50: float
    wall_p95: float
    cpu_p50: float
    cpu_p95: float
    collections: float  # in a hundred visits


LISTS = {
    "newest": "",
    "by model": "q=model:gpt-4o",
    "failed": "q=status:error",
    "of one user": "q=user:user-7",
    "of two users, and a status": "q=user:(user-7+OR+user-9)+status:ok",
    "of a property": "q=tenant:t7",
    "of a property's pattern": "q=tenant:t1*",
    "of a model and a property": "q=model:gpt-4o+tenant:t7",
    "of a route": "q=route:/chat",
    "dear ones": "q=cost:%3E0.01",
    "slow ones but one tenant's": "q=latency:%3E1s+-tenant:t7",
    "failed or slow": "q=(status:error+OR+latency:%3E1s)",
    "with a rare word": f"q={RARE}",
    "with a frequent word": "q=an",
    "without a frequent word": "q=-an",
    "with a frequent word or failed": "q=(an+OR+status:error)",
    "with tools": "q=has:tools",
    "with a score": "q=score.quality:%3E1",
}
BOARDS = {
    "overview": "?since=1970-01-01",
    "overview, a day": "?since={day}&until={end}",
    "overview, of a model": "?since=1970-01-01&model=gpt-4o",
    "overview, of a property": "?since=1970-01-01&property.tenant=t7",
    "overview, of two users": "?since=1970-01-01&user=user-7&user=user-9",
    "overview by model": "?since=1970-01-01&by=model",
    "overview by route and status": "?since=1970-01-01&by=route&and=status",
    "overview by user": "?since=1970-01-01&by=user",
    "overview by user and model": "?since=1970-01-01&by=user&and=model",
    "overview by a property": "?since=1970-01-01&by=property.tenant",
    "overview of failures by error": "?since=1970-01-01&by=error&status=error",
    "users": "users?since=1970-01-01",
    "users by average cost": "users?since=1970-01-01&sort=average",
    "properties": "properties?since=1970-01-01",
    "models": "models?since=1970-01-01",
    "endpoints": "endpoints?since=1970-01-01",
    "insights": "insights?since=1970-01-01",
    "scores": "scores",
    "status": "status",
    "settings": "settings",
}
GROUPED = (
    "newest", "by model", "failed", "of one user", "of a property", "with a rare word", "with a frequent word",
    "without a frequent word",
)  # fmt: skip
SORTS = ("cost", "latency", "tokens")


def cases(database: Database, runs: int) -> Iterator[Case]:
    """Every page, with what may be asked for in its address.

    Raises:
        ValueError: The store is empty.
    """
    first, last = edges(database, "default")
    if first is None or last is None:
        raise ValueError("the store is empty")
    rows = some_rows(database, range(first, last, (last - first) // (3 * runs) + 1))
    day = {"day": stamp(last - 86_400_000_000_000), "end": stamp(last)}
    for name, address in BOARDS.items():
        yield Case(name, BOARD_MS, [address.format(**day)])
    for name, query in LISTS.items():
        yield Case(f"requests {name}", LIST_MS, [f"requests?{query}"])
    for sort in SORTS:
        yield Case(f"requests by {sort}", LIST_MS, [f"requests?sort={sort}"])
        yield Case(f"requests of a model by {sort}", LIST_MS, [f"requests?sort={sort}&q=model:gpt-4o"])
    for kind in ("traces", "sessions"):
        for name in GROUPED:
            yield Case(f"{kind} {name}", LIST_MS, [f"{kind}?{LISTS[name]}"])
    for text in ("model:", "user:u", "ten", "tenant:t", "session:s"):
        yield Case(f"type-ahead of {text}", LIST_MS, [f"search.json?q={quote(text)}&at={len(text)}"])
    yield Case("a user", BOARD_MS, [f"users/{row.user_id}?since=1970-01-01" for row in rows if row.user_id])
    yield Case("a model", BOARD_MS, [f"models/{row.request_model}?since=1970-01-01" for row in rows])
    yield Case("a property", BOARD_MS, ["properties/tenant?since=1970-01-01"])
    yield Case("a request", LIST_MS, [f"requests/{row.id}" for row in rows])
    yield Case("a trace", LIST_MS, [f"traces/{row.trace_id}" for row in rows])
    yield Case("a session", LIST_MS, [f"sessions/{row.session_id}" for row in rows if row.session_id])
    yield Case("going to an id", LIST_MS, [f"jump?list=1&to={row.id}" for row in rows])


def some_rows(database: Database, starts: Iterable[int]) -> Sequence[Any]:
    """The first request from each of these moments on."""
    columns = spans.c
    query = select(columns.id, columns.trace_id, columns.session_id, columns.user_id, columns.request_model)
    query = query.where(columns.project == "default", columns.is_request == literal(1, literal_execute=True))
    with database.read() as connection:
        found = (query.where(columns.start_ns >= start).order_by(columns.start_ns, columns.key) for start in starts)
        return [connection.execute(one.limit(1)).one() for one in found]


def stamp(ns: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ns // 1_000_000_000))


async def visit(app: Any, address: str) -> int:
    """The status that the page answers with."""
    path, _, query = address.partition("?")
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": f"/{path}",
        "raw_path": f"/{path}".encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 50_000), "server": ("127.0.0.1", 8000),
    }  # fmt: skip
    status = 0

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    await app(scope, receive, send)
    return status


class Clock:
    """CPU time of this process and of the server's processes that work for it, in seconds."""

    def __init__(self, database: Database) -> None:
        self.files: list[Path] = []
        if not database.sqlite:
            query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            with database.read() as connection:
                pids = connection.exec_driver_sql(query).scalars()
                self.files = [file for pid in pids if (file := Path(f"/proc/{pid}/schedstat")).exists()]

    def now(self) -> float:
        theirs = sum(int(file.read_text().split()[0]) for file in self.files)
        return time.process_time() + theirs / 1e9


def measured(runner: asyncio.Runner, app: Any, database: Database, case: Case, runs: int) -> Took:
    """What *runs* visits took, after one that is not counted.

    Raises:
        RuntimeError: There is no such page.
    """
    wall, cpu, clock, collected = [], [], Clock(database), collections()
    for number, address in zip(range(runs + 1), cycle(case.addresses), strict=False):
        begin, used = time.perf_counter(), clock.now()
        status = runner.run(visit(app, address))
        if status not in (200, 503):  # 503: it took too long, as it says
            raise RuntimeError(f"{address} answers {status}")
        if number:
            wall.append((time.perf_counter() - begin) * 1000)
            cpu.append((clock.now() - used) * 1000)
        else:
            clock, collected = Clock(database), collections()
    share = (collections() - collected) * 100 / runs
    return Took(statistics.median(wall), high(wall), statistics.median(cpu), high(cpu), share)


def collections() -> int:
    """Full ones, so far."""
    return int(gc.get_stats()[2]["collections"])


def high(values: Sequence[float]) -> float:
    return sorted(values)[-(-95 * len(values) // 100) - 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True, help="database URL")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--only", default="", help="pages with this in their name")
    parser.add_argument("--table", action="store_true", help="as a Markdown table")
    options = parser.parse_args()
    database = Database(options.store)
    app = Admin(database=database, auth=lambda request: "operator", environ={})
    line = "| {} |" + " {:.0f} |" * 5 if options.table else "{:38}" + " {:6.0f}" * 5
    with asyncio.Runner() as runner:
        for case in cases(database, options.runs):
            if options.only in case.name:
                took = measured(runner, app, database, case, options.runs)
                over = took.cpu_p95 > case.bar_ms
                print(line.format(case.name, *took) + (" over" if over else ""), flush=True)
    database.dispose()


if __name__ == "__main__":
    main()
