"""The spool in files: what is there after a crash, who takes it over, what goes first where room is short."""

import errno
import gc
import os
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asgi_llmobs.records import Exchange, Outcome, Span
from asgi_llmobs.spool import Counters, Entry
from asgi_llmobs.spool import adoption as adoption_module
from asgi_llmobs.spool import durable as durable_module
from asgi_llmobs.spool import journal as journal_module
from asgi_llmobs.spool import upkeep as upkeep_module
from asgi_llmobs.spool.durable import DurableSpool
from asgi_llmobs.spool.segment import HEADER
from tests.spool.calls import call, finish, span, stream

KB = 1024
ROOT = Path(__file__).parents[2]
Make = Callable[..., DurableSpool]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Spools on one folder; adoption at every turn of the writer."""
    monkeypatch.setattr(upkeep_module, "ADOPT_SECONDS", 0.0)
    made: list[DurableSpool] = []

    def make(**given: Any) -> DurableSpool:
        values: dict[str, Any] = {"budget": 4096 * KB, "cap": 1024 * KB, "segment": 64 * KB, **given}
        values.setdefault("origin", lambda: {"pid": 4711, "host": "h"})
        made.append(DurableSpool(str(tmp_path / "data" / "spool"), **values))
        return made[-1]

    yield make
    for spool in made:
        kill(spool)


def kill(spool: DurableSpool) -> None:
    """What happens to its files when the process is killed: they are closed, and the lock is free."""
    spool.forsake()


def drain(spool: DurableSpool) -> list[Entry]:
    """Everything that waits, as the writer takes it."""
    found: list[Entry] = []
    spool.tend()
    while batch := spool.take(50):
        found += batch
        spool.done(len(batch), {})
    return found


def balanced(spool: DurableSpool) -> Counters:
    counters = spool.counters()
    assert counters.captured == counters.stored + counters.spooled + sum(counters.dropped.values())
    return counters


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "data" / "spool").rglob("*.seg"))


def texts(entries: list[Entry]) -> list[bytes]:
    return [b"".join(entry.response_chunks) for entry in entries if isinstance(entry, Exchange)]


def test_what_was_put_is_taken_in_order(make: Make) -> None:
    """The same objects, in their order; the same again until they are done."""
    spool = make()
    entries = [finish(call(), b"%d" % number) for number in range(5)]
    for entry in entries:
        spool.begin(entry)
        spool.put(entry)

    assert list(spool.take(3)) == entries[:3] == list(spool.take(3))
    spool.done(3, {})
    assert list(spool.take(3)) == entries[3:]
    spool.done(1, {"refused": 1})
    assert balanced(spool)[:4] == (5, 4, 0, {"refused": 1})


def test_a40_only_the_owner_reads_it(make: Make, tmp_path: Path) -> None:
    """Folders 0700, files 0600, and no version control takes them in."""
    spool = make()
    spool.put(finish(call()))

    data = tmp_path / "data"
    assert {path.stat().st_mode & 0o777 for path in (data, *data.rglob("*")) if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in (data / "spool").rglob("*") if path.is_file()} == {0o600}
    assert (data / ".gitignore").read_text() == "*\n"


def test_f2_what_a_dead_process_finished_is_taken_over(make: Make, tmp_path: Path) -> None:
    """Once, with the process it was made by; what was stored is not taken again; then its files are gone."""
    dead = make()
    dead.begin(entry := finish(call(), b"stored"))
    dead.put(entry)
    assert dead.take(10)
    dead.done(1, {})
    dead.begin(entry := finish(call(properties={"a": "b"}), b"one"))
    dead.put(entry)
    dead.put(tool := span(kind="tool"))
    kill(dead)

    heir = make(origin=lambda: {"pid": 1})
    found = drain(heir)

    assert texts(found) == [b"one"]
    assert isinstance(found[0], Exchange) and isinstance(found[1], Span)
    assert (found[0].id, found[0].properties, found[0].origin) == (entry.id, {"a": "b"}, {"pid": 4711, "host": "h"})
    assert (found[1].id, found[1].kind, found[1].pid) == (tool.id, "tool", 4711)
    assert balanced(heir).adopted == 2
    assert drain(make()) == []
    assert [path for path in files(tmp_path) if path.parent.name in str(dead.journal.folder)] == []


def test_what_was_stored_before_a_crash_is_not_taken_again(make: Make) -> None:
    """The mark of each call moves when it is stored, not when all of them are."""
    dead = make()
    for number in range(10):
        dead.begin(entry := finish(call(), b"%d" % number))
        dead.put(entry)
    dead.done(len(dead.take(4)), {})
    kill(dead)

    assert texts(drain(make())) == [b"%d" % number for number in range(4, 10)]


def test_a_living_process_keeps_its_own(make: Make) -> None:
    """Its lock is held."""
    alive = make()
    alive.put(finish(call()))

    assert drain(make()) == []
    assert len(drain(alive)) == 1


def test_p4_what_was_under_way_was_interrupted(make: Make) -> None:
    """With what had streamed by the last part, and the root that was still open."""
    dead = make()
    root = span(kind="http", outcome="running", duration_ns=None)

    class Trace:
        root_spooled = client_gone = False

        def open_root(self) -> Span:
            return root

    silent, speaking = call(), call(trace=Trace())
    for entry in (silent, speaking):
        dead.begin(entry)
    stream(speaking, b"hel", b"lo\n")
    dead.progress(speaking)
    stream(speaking, b"never noted")
    kill(dead)

    found = {entry.id: entry for entry in drain(make())}

    assert {entry.outcome for entry in found.values()} == {Outcome.INTERRUPTED}
    back = found[speaking.id]
    assert isinstance(back, Exchange) and back.response_chunks == [b"hel", b"lo\n"]
    assert set(found) == {silent.id, speaking.id, root.id}


def test_a_root_that_ended_is_no_interrupted_one(make: Make) -> None:
    """The finished span stands for the open one."""
    dead = make()
    root = span(outcome="ok")

    class Trace:
        root_spooled = client_gone = False

        def open_root(self) -> Span:
            return root

    dead.begin(entry := finish(call(trace=Trace())))
    dead.put(entry)
    dead.put(root)
    kill(dead)

    assert [entry.outcome for entry in drain(make())] == ["ok", "ok"]


def test_the_writer_notes_what_streams_slowly(make: Make) -> None:
    """No further chunk has to come for that."""
    dead = make()
    dead.begin(entry := call())
    stream(entry, b"a word, then silence\n")
    dead.tend()
    kill(dead)

    assert texts(drain(make())) == [b"a word, then silence\n"]


def test_p7_a_fork_shares_nothing(make: Make) -> None:
    """The child has its own files, ends no call of its parent, and its end frees no lock."""
    spool = make()
    spool.begin(entry := call())
    spool.put(finish(call(), b"of the parent"))
    child = os.fork()
    if child == 0:
        spool.put(finish(entry, b"ended in the child"))  # as a finalizer would
        spool.put(finish(call(), b"of the child"))
        os._exit(0 if spool.counters().captured == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0

    assert sorted(texts(drain(spool))) == [b"of the child", b"of the parent"]
    assert drain(make()) == []


def test_threads_lose_nothing(make: Make) -> None:
    """Eight of them, and a writer at the same time."""
    spool, taken = make(cap=8192 * KB), []
    stop = threading.Event()

    def work() -> None:
        for number in range(50):
            spool.begin(entry := call(b"x" * 500))
            stream(entry, b"y" * 100)
            spool.progress(entry)
            spool.put(finish(entry, b"%d" % number))

    def write() -> None:
        while not stop.is_set() or not spool.empty():
            taken.extend(drain(spool))

    threads = [threading.Thread(target=work) for _ in range(8)]
    writer = threading.Thread(target=write)
    for thread in (*threads, writer):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    writer.join()

    assert (len(taken), len({entry.id for entry in taken})) == (400, 400)
    assert balanced(spool).spooled == 0


def test_files_are_used_again(make: Make, tmp_path: Path) -> None:
    """A hundred times the size of a file goes through a few of them."""
    spool = make()
    for _ in range(100):
        for _ in range(20):
            spool.put(finish(call(b"x" * 2_000)))
        assert len(drain(spool)) == 20

    assert len(files(tmp_path)) <= 6
    assert balanced(spool).stored == 2_000


def test_a41_nothing_stays_in_them(make: Make, tmp_path: Path) -> None:
    """What is stored is wiped from the files, in the small and in the large."""
    spool = make(segment=1024 * KB, cap=8192 * KB)
    for size in (10, 200 * KB, 10):
        spool.put(finish(call(b"needle" + b"x" * size)))
        drain(spool)
    spool.tend()
    spool.tend()

    assert [path for path in files(tmp_path) if b"needle" in path.read_bytes()] == []


def test_a_long_call_does_not_keep_files(make: Make, tmp_path: Path) -> None:
    """It is written again into the newest one, and comes back whole after a crash."""
    spool = make()
    spool.begin(entry := call(b"long", clock_ns=time.monotonic_ns() - 10**9))
    stream(entry, b"begin")
    spool.progress(entry)
    for _ in range(40):
        for _ in range(20):
            spool.put(finish(call(b"x" * 2_000)))
        drain(spool)
    stream(entry, b" go on\n")
    spool.progress(entry)
    assert len(files(tmp_path)) <= 7
    kill(spool)

    (back,) = drain(make())
    assert isinstance(back, Exchange)
    assert (back.request_chunks, b"".join(back.response_chunks)) == ([b"long"], b"begin go on\n")


def test_memory_is_bounded_by_files(make: Make) -> None:
    """Beyond the budget calls wait in files only, and come back whole."""
    spool = make(budget=200 * KB, cap=4096 * KB)
    for number in range(100):
        spool.put(finish(call(b"x" * 10_000), b"%d" % number))
        if number % 10 == 9:
            spool.tend()

    assert spool.queue.memory <= 200 * KB
    found = drain(spool)
    assert texts(found) == [b"%d" % number for number in range(100)]
    assert all(isinstance(entry, Exchange) and entry.request_chunks == [b"x" * 10_000] for entry in found)
    assert balanced(spool).dropped == {}


def test_f21_what_waits_in_files_only_takes_little_memory(make: Make) -> None:
    """A tenth of a kilobyte for a small call, which is counted; all of them come back whole, in their order."""
    spool = make(budget=1024 * KB, cap=16_384 * KB)

    def fill(numbers: range) -> None:
        for number in numbers:
            spool.begin(entry := call(b"x" * 100))
            spool.put(finish(entry, b"%d" % number))
            if number % 20 == 19:
                spool.tend()

    fill(range(500))
    tracemalloc.start()
    counted = spool.queue.memory
    fill(range(500, 3_000))
    gc.collect()
    taken, counted = tracemalloc.get_traced_memory()[0], spool.queue.memory - counted
    tracemalloc.stop()

    assert taken / 2_500 < 120
    assert counted > 0 and spool.queue.memory <= 512 * KB
    assert texts(drain(spool)) == [b"%d" % number for number in range(3_000)]
    assert balanced(spool).dropped == {} and (spool.queue.memory, spool.queue.packed) == (0, 0)


def test_streams_in_many_records_wait_in_files_only(make: Make) -> None:
    """Each of their records is found again."""
    spool = make(budget=100 * KB, cap=4096 * KB)
    for number in range(40):
        spool.begin(entry := call())
        for part in range(number):
            stream(entry, b"%d\n" % part)
            spool.progress(entry)
        spool.put(finish(entry, b"over"))
        spool.tend()

    assert spool.queue.packed > 0
    wanted = [b"".join(b"%d\n" % part for part in range(number)) + b"over" for number in range(40)]
    assert texts(drain(spool)) == wanted


def test_f22_what_is_taken_over_and_gives_up_its_bodies_keeps_its_origin(make: Make) -> None:
    """It is written again in a file of another process."""
    dead = make(origin=lambda: {"pid": 1, "host": "other"})
    for number in range(10):
        dead.put(finish(call(b"x" * 1_000), b"%d" % number))
    kill(dead)
    heir = make()
    heir.tend()
    for _ in range(120):
        heir.put(finish(call(b"x" * 8_000)))
        heir.tend()
    found = [entry for entry in drain(heir) if isinstance(entry, Exchange)]

    assert len(found) == 130 and balanced(heir).dropped == {}
    assert all(entry.request_truncated for entry in found[:10])
    assert [(entry.origin or {}).get("pid") for entry in found[9:11]] == [1, None]


def test_files_with_room_are_no_reason_to_drop(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store is away a quiet app writes a little to one file after the other: none of it has to go."""
    monkeypatch.setattr(journal_module, "SYNC_SECONDS", 0.0)
    spool = make(cap=512 * KB)
    lasting = call(b"hello", clock_ns=time.monotonic_ns() - 10**9)
    spool.begin(lasting)
    for _ in range(10):
        spool.put(finish(call(b"hello")))
        spool.tend()

    assert balanced(spool).dropped == {} and spool.counters().bodies_dropped == 0
    assert len(drain(spool)) == 10


def test_f22_bodies_go_before_records_oldest_first(make: Make, tmp_path: Path) -> None:
    """At the cap the oldest calls lose their bodies; all are still there, and each loss is counted."""
    spool = make(budget=256 * KB)
    for number in range(200):
        spool.put(finish(call(b"x" * 8_000), b"%d" % number))
        spool.tend()

    assert sum(path.stat().st_size for path in files(tmp_path)) <= 1024 * KB + 128 * KB
    found = drain(spool)
    counters = balanced(spool)
    bare = [isinstance(entry, Exchange) and not entry.request_chunks for entry in found]
    assert (len(found), counters.dropped) == (200, {})
    assert counters.bodies_dropped == sum(bare) > 0
    assert not bare[-1] and bare[0]
    assert isinstance(found[0], Exchange) and found[0].request_truncated


def test_f22_then_the_oldest_records_go(make: Make) -> None:
    """Each counted by its reason."""
    spool = make(budget=256 * KB, cap=512 * KB)
    for _ in range(2_000):
        spool.put(finish(call(b"x" * 2_000)))
        spool.tend()

    counters = balanced(spool)
    assert counters.dropped["spool full"] > 0
    assert len(drain(spool)) == 2_000 - balanced(spool).dropped["spool full"]


def test_f7_without_a_folder_calls_wait_in_memory(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One warning, the memory bounded, and files again as soon as they can be made."""
    (tmp_path / "data").write_text("in the way")
    monkeypatch.setattr(journal_module, "RETRY_SECONDS", 0.0)
    spool = make(budget=400 * KB)
    for _ in range(60):
        spool.begin(entry := call(b"x" * 10_000))
        spool.put(finish(entry))
    spool.tend()

    counters = balanced(spool)
    assert (counters.durable, counters.spooled, len(caplog.records)) == (False, 60, 1)
    assert counters.bodies_dropped > 0 and spool.queue.memory <= 200 * KB
    (tmp_path / "data").unlink()
    spool.tend()
    spool.put(finish(call(), b"durable again"))
    assert spool.counters().durable
    kill(spool)
    found = texts(drain(make()))
    assert (len(found), found[-1]) == (61, b"durable again")  # what had waited in memory too


def test_f4_a_deleted_folder_is_made_again(make: Make, tmp_path: Path) -> None:
    """What waited in it is still stored, what comes now is durable again."""
    spool = make()
    spool.put(finish(call(), b"before"))
    for path in (tmp_path / "data" / "spool").rglob("*"):
        if path.is_file():
            path.unlink()
    Path(str(spool.journal.folder)).rmdir()
    spool.tend()
    spool.put(finish(call(), b"after"))

    assert files(tmp_path) != []
    assert texts(drain(spool)) == [b"before", b"after"]


def damage(path: Path, at: int, value: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(value)


def test_f31_damage_costs_one_record(make: Make, tmp_path: Path) -> None:
    """Of a flipped bit only the record that it hit is lost, and it is counted."""
    dead = make()
    for number in range(5):
        dead.put(finish(call(), b"%d" % number))
    kill(dead)
    (path,) = files(tmp_path)
    content = path.read_bytes()
    at = content.index(b"\xf5LO\x1e", HEADER + 100)
    damage(path, at + 60, bytes([content[at + 60] ^ 1]))

    heir = make()
    assert texts(drain(heir)) == [b"0", b"2", b"3", b"4"]
    assert balanced(heir).damaged == {"checksum": 1}


@pytest.mark.parametrize("size", [0, 10, HEADER - 1, HEADER, HEADER + 5, HEADER + 700])
def test_f31_a_torn_file_costs_its_end(make: Make, tmp_path: Path, size: int) -> None:
    """Whatever is left of it, nothing else fails."""
    dead = make()
    for number in range(5):
        dead.put(finish(call(), b"%d" % number))
    kill(dead)
    os.truncate(files(tmp_path)[0], size)

    heir = make()
    assert texts(drain(heir)) == ([b"0"] if size > HEADER + 600 else [])
    heir.put(finish(call(), b"own"))
    assert texts(drain(heir)) == [b"own"]


def test_f31_a_newer_version_is_left_alone(make: Make, tmp_path: Path) -> None:
    """It is counted once, and stays for the version that can read it."""
    dead = make()
    dead.put(finish(call()))
    kill(dead)
    (path,) = files(tmp_path)
    damage(path, 8, b"\x63\0")

    heir = make()
    assert drain(heir) == drain(heir) == []
    assert path.exists()
    assert balanced(heir).damaged == {"version": 1}


def test_f31_a_prompt_that_looks_like_a_record_is_none(make: Make, tmp_path: Path) -> None:
    """The bytes of another spool's record inside a body do not count, even where the record around it is damaged."""
    other = make()
    other.put(finish(call(), b"forged"))
    kill(other)
    (path,) = files(tmp_path)
    record = path.read_bytes()[HEADER:].rstrip(b"\0")
    drain(make())
    for old in files(tmp_path):
        old.unlink(missing_ok=True)
    dead = make()
    dead.put(finish(call(), b"12345678", record))
    kill(dead)
    (path,) = (path for path in files(tmp_path) if record in path.read_bytes())
    damage(path, HEADER + 40, b"~")

    heir = make()
    assert drain(heir) == []
    assert heir.counters().damaged == {"checksum": 1}


def test_two_heirs_do_not_share(make: Make) -> None:
    """Whoever has the lock takes it all."""
    dead = make()
    for _ in range(20):
        dead.put(finish(call()))
    kill(dead)
    first, second = make(), make()
    first.tend()
    second.tend()

    assert (len(drain(first)), len(drain(second))) == (20, 0)


def test_closing_while_the_dead_are_read(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends while it takes over takes nothing with it: files are no empty ones before they were read."""
    dead = make()
    for number in range(20):
        dead.put(finish(call(), b"%d" % number))
    kill(dead)
    heir, read = make(), adoption_module.scan

    def slow(*given: Any) -> Any:
        closer = threading.Thread(target=heir.close)
        closer.start()
        closer.join(40)
        return read(*given)

    monkeypatch.setattr(adoption_module, "scan", slow)
    heir.tend()
    monkeypatch.undo()
    monkeypatch.setattr(upkeep_module, "ADOPT_SECONDS", 0.0)
    taken = drain(heir)
    kill(heir)

    assert texts(taken + drain(make())) == [b"%d" % number for number in range(20)]


def test_what_cannot_be_opened_now_is_left(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no descriptors, whoever has some takes it over."""
    dead = make()
    dead.put(finish(call(), b"later"))
    kill(dead)
    heir = make()

    def none_left(*_: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(adoption_module.Estate, "_read", none_left)
        heir.tend()
    kill(heir)

    assert texts(drain(make())) == [b"later"]


def test_an_heir_that_dies_is_inherited(make: Make) -> None:
    """What it had stored is not taken again."""
    dead = make()
    for number in range(10):
        dead.put(finish(call(), b"%d" % number))
    kill(dead)
    first = make()
    first.tend()
    taken = first.take(4)
    first.done(len(taken), {})
    kill(first)

    second = make()
    assert texts(drain(second)) == [b"%d" % number for number in range(4, 10)]


def test_closing_leaves_nothing_where_nothing_waits(make: Make, tmp_path: Path) -> None:
    """And keeps everything where something does; the next call starts again."""
    spool = make()
    spool.put(finish(call()))
    spool.close()
    assert len(files(tmp_path)) == 1
    drain(spool)
    spool.close()
    assert list((tmp_path / "data" / "spool").iterdir()) == []
    spool.put(finish(call(), b"again"))
    assert texts(drain(spool)) == [b"again"]


def test_a_record_that_cannot_be_written_waits_in_memory(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of ours costs durability, not the call."""
    spool = make()

    def broken(*_given: Any, **_named: Any) -> bytes:
        raise RuntimeError

    monkeypatch.setattr(durable_module.serial, "end", broken)
    monkeypatch.setattr(durable_module.serial, "start", broken)
    spool.begin(entry := call())
    spool.put(finish(entry, b"kept"))

    assert texts(drain(spool)) == [b"kept"]
    assert balanced(spool).stored == 1


def test_a_very_large_body_has_a_file_of_its_own(make: Make) -> None:
    """Larger than a segment, it is durable all the same."""
    dead = make()
    dead.put(finish(call(b"x" * 300 * KB), b"large"))
    dead.tend()
    kill(dead)

    (back,) = drain(make())
    assert isinstance(back, Exchange) and len(back.request_chunks[0]) == 300 * KB
