"""What may happen to a spool's files while they are used: cut short, deleted, no descriptors, a disk that hangs."""

import gc
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asgi_llmobs.records import Exchange, Span
from asgi_llmobs.redaction import Redactor
from asgi_llmobs.spool import Entry
from asgi_llmobs.spool import item as item_module
from asgi_llmobs.spool import journal as journal_module
from asgi_llmobs.spool import queue as queue_module
from asgi_llmobs.spool import segment as segment_module
from asgi_llmobs.spool import upkeep as upkeep_module
from asgi_llmobs.spool.durable import DurableSpool
from tests.spool.calls import call, finish, span, stream
from tests.spool.test_durable import ROOT, balanced, drain, files, texts

KB = 1024
KEY = b"sk-abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DurableSpool]:
    """A spool without a thread: who calls tend looks after its files."""
    monkeypatch.setattr(upkeep_module, "ADOPT_SECONDS", 0.0)
    monkeypatch.setattr(journal_module, "RETRY_SECONDS", 0.0)
    made = another(tmp_path)
    yield made
    made.forsake()


def another(tmp_path: Path, **given: Any) -> DurableSpool:
    values = {"budget": 4096 * KB, "cap": 8192 * KB, "segment": 64 * KB, **given}
    return DurableSpool(str(tmp_path / "data" / "spool"), **values)


def left(tmp_path: Path) -> list[Entry]:
    """What the next process finds."""
    heir = another(tmp_path)
    found = drain(heir)
    heir.forsake()
    return found


def written(tmp_path: Path) -> bytes:
    return b"".join(path.read_bytes() for path in files(tmp_path))


@pytest.mark.parametrize("probes", [True, False], ids=["by-its-pages", "by-its-length"])
@pytest.mark.parametrize("size", [0, 5_000])
def test_f30_a_file_that_is_cut_short_kills_nobody(
    tmp_path: Path, spool: DurableSpool, monkeypatch: pytest.MonkeyPatch, size: int, probes: bool
) -> None:
    """Writing to it would end the process; instead it is left, and what stood in it is written again."""
    if not probes:  # an older Linux, another system
        monkeypatch.setattr(segment_module, "probe", lambda mapped: None)
    spool.put(finish(call(), b"before" + b" " * 6_000))
    for path in files(tmp_path):
        os.truncate(path, size)
    spool.begin(entry := call())
    spool.put(finish(entry, b"between"))
    assert not spool.counters().durable and spool.counters().trouble
    spool.tend()
    spool.tend()
    spool.put(finish(call(), b"after"))

    assert spool.counters().durable and spool.counters().trouble is None
    spool.forsake()
    assert [text.strip() for text in sorted(texts(left(tmp_path)))] == [b"after", b"before", b"between"]


def test_a_writer_that_fails_while_it_lets_go_of_what_is_stored(
    spool: DurableSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had not let go of yet is given to it once more, and the counters add up all the time."""
    for number in range(3):
        spool.put(finish(call(), b"%d" % number))
    assert len(spool.take(10)) == 3
    forget = queue_module.Queue.forget

    def fails(queue: queue_module.Queue, item: item_module.Item) -> None:
        if queue.spooled == 2:
            raise MemoryError
        forget(queue, item)

    with monkeypatch.context() as patch:
        patch.setattr(queue_module.Queue, "forget", fails)
        with pytest.raises(MemoryError):
            spool.done(3, {})
    assert balanced(spool) and spool.counters().spooled == 2
    assert texts(spool.take(10)) == [b"1", b"2"]
    spool.done(2, {})
    assert balanced(spool) and spool.empty() and spool.counters().stored == 3


def test_f30_files_that_are_deleted_are_written_again(
    tmp_path: Path, spool: DurableSpool, caplog: pytest.LogCaptureFixture
) -> None:
    """The folder stays, its files go: one line in the log, and nothing is lost."""
    spool.begin(entry := call(b"asked"))
    spool.put(finish(call(), b"before"))
    spool.tend()
    for path in files(tmp_path):
        path.unlink()
    spool.tend()
    spool.tend()

    assert [record.getMessage() for record in caplog.records if "deleted" in record.getMessage()] != []
    spool.put(finish(entry, b"after"))
    spool.forsake()
    assert sorted(texts(left(tmp_path))) == [b"after", b"before"]


def test_f30_files_that_are_deleted_in_an_outage(tmp_path: Path) -> None:
    """Very many waited in them: they are written again one after the other, without more memory than there is."""
    spool = another(tmp_path, budget=200 * KB)
    for number in range(600):
        spool.put(finish(call(b"x" * 500), b"%d" % number))
        if number % 20 == 0:
            spool.tend()
    spool.tend()
    for path in files(tmp_path):
        path.unlink()
    spool.tend()
    spool.tend()

    assert spool.queue.memory <= 100 * KB and balanced(spool).bodies_dropped == 0
    spool.forsake()
    assert texts(left(tmp_path)) == [b"%d" % number for number in range(600)]


def test_f30_without_descriptors_calls_wait_in_memory(tmp_path: Path, spool: DurableSpool) -> None:
    """No file can be opened for a while: every call is taken, and written as soon as one can."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        for number in range(20):
            spool.begin(entry := call())
            spool.put(finish(entry, b"%d" % number))
        spool.tend()
        counters = spool.counters()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (counters.durable, counters.spooled) == (False, 20) and "open files" in str(counters.trouble)
    spool.tend()
    spool.tend()

    assert balanced(spool).durable
    spool.forsake()
    assert len(texts(left(tmp_path))) == 20


def test_f9_a_disk_that_does_not_answer_is_not_waited_for(spool: DurableSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are left alone until it does; calls are taken at once."""
    spool.put(finish(call(), b"before"))
    monkeypatch.setattr(spool.journal, "_busy_at", time.monotonic() - 10)
    spool.put(finish(call(), b"meanwhile"))
    counters = spool.counters()
    assert (counters.durable, counters.trouble) == (False, "the disk does not answer")
    monkeypatch.undo()
    spool.journal._busy_at = 0.0

    assert texts(drain(spool)) == [b"before", b"meanwhile"]


@pytest.mark.slow
@pytest.mark.parametrize("disk", ["there", "full"])
def test_f21_an_outage_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: str) -> None:
    """The writer cannot store what it took, for days: of what was given up meanwhile nothing stays in memory."""
    monkeypatch.setattr(queue_module, "SWEPT", 50)
    before = alive()
    spool = another(tmp_path, budget=20 * KB, segment=64 * KB if disk == "there" else 1 << 40)
    spool.put(finish(call()))
    assert len(spool.take(10)) == 1
    for number in range(1_000):
        spool.put(finish(call()))
        if number % 50 == 0:
            spool.tend()
    counters = balanced(spool)

    assert counters.durable == (disk == "there") and spool.queue.memory <= 14 * KB
    assert 1 < counters.spooled <= (130 if disk == "there" else 6) and counters.dropped["spool full"] >= 870
    assert alive() - before < 250
    spool.forsake()


def test_f21_a_disk_that_goes_away_in_an_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind those that stand in files, others come and go in memory only: nothing stays of those that went."""
    monkeypatch.setattr(queue_module, "SWEPT", 50)
    before = alive()
    spool = another(tmp_path, budget=40 * KB)
    for number in range(100):
        spool.put(finish(call(), b"%d" % number))
    assert spool.counters().durable
    spool.journal._busy_at = time.monotonic() - 10
    for _ in range(5_000):
        spool.put(finish(call()))
    counters = balanced(spool)
    assert not counters.durable and counters.spooled < 160 and counters.dropped["spool full"] > 4_800
    assert alive() - before < 250 and len(spool.queue.stretches()) < 6
    spool.journal._busy_at = 0.0

    assert texts(drain(spool))[:100] == [b"%d" % number for number in range(100)]
    spool.forsake()


def alive() -> int:
    """How many things that wait, or waited, are in memory, and lists of them."""
    gc.collect()
    kinds = (item_module.Item, item_module.Stretch)
    return sum(isinstance(found, kinds) for found in gc.get_objects())


@pytest.mark.parametrize("budget", [KB, 6 * KB])
def test_a_finalizer_that_ends_calls_in_the_middle_of_everything(tmp_path: Path, budget: int) -> None:
    """Wherever it comes in between, each call is stored once or counted, and no byte of memory stays counted."""
    step, over = 0, False
    while not over:
        step, over = step + 7, True
        spool = another(tmp_path / str(step), budget=budget)
        events, seen = 0, Counter[str]()

        def finalize(frame: Any, event: str, _: Any, spool: DurableSpool = spool, step: int = step) -> None:
            nonlocal events, over
            if event in ("call", "c_return") and frame.f_code.co_filename in (
                queue_module.__file__,
                item_module.__file__,
            ):
                events += 1
                if events == step:
                    over = False
                    for _ in range(5):
                        spool.put(finish(call(b"from the finalizer" * 20)))

        sys.setprofile(finalize)
        try:
            for _ in range(12):
                spool.put(finish(call(b"x" * 300)))
            item = spool.queue.fattest()
            taken = spool.take(5)
            if item is not None:
                spool.queue.settle(item)
            seen.update(entry.id for entry in taken)
            spool.done(len(taken), {})
            spool.put(finish(call(b"x" * 300)))
            for entry in drain(spool):
                seen[entry.id] += 1
        finally:
            sys.setprofile(None)
        counters = balanced(spool)
        assert counters.captured == (13 if over else 18) and counters.stored == len(seen) == seen.total()
        queue = spool.queue
        assert (counters.spooled, queue.memory, queue.bytes, queue.packed) == (0, 0, 0, 0), step
        spool.forsake()


def test_f5_a_small_disk_in_use(tmp_path: Path) -> None:
    """Space that is not there is told before anything is written to it: the process lives."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small disk")
    code = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from asgi_llmobs.spool.durable import DurableSpool
from tests.spool.calls import call, finish
spool = DurableSpool({str(tmp_path)!r} + "/small/spool", 1 << 20, 1 << 28)
for number in range(2000):
    spool.put(finish(call(b"x" * 5000)))
    if number % 20 == 0:
        spool.tend()
counters = spool.counters()
assert counters.captured == counters.spooled + sum(counters.dropped.values()) == 2000
assert counters.bodies_dropped > 0
"""
    (tmp_path / "small").mkdir()
    mount = f'mount -t tmpfs -o size=5m none {tmp_path}/small || exit 77; exec "$@"'
    done = subprocess.run(["unshare", "-m", "sh", "-c", mount, "sh", sys.executable, "-c", code], capture_output=True)
    if done.returncode in (77, 1) and b"unshare" in done.stderr + b"mount" * (done.returncode == 77):
        pytest.skip("no mount here")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(b"no file can be written") == 1


def test_a34_nothing_that_looks_like_a_credential_enters(tmp_path: Path, spool: DurableSpool) -> None:
    """In bodies, in headers, in texts of spans, and cut in two by a stream's chunks."""
    spool.begin(entry := call(b'{"q":"use ' + KEY + b'"}'))
    stream(entry, b"data: the key is Bearer ", b"abcdefgh", b"ijklmnop1234 ok\n")
    spool.progress(entry)
    spool.tend()
    spool.progress(entry)
    entry.response_headers.append((b"x-echo", KEY))
    spool.put(finish(entry, b'data: {"api_key": "not-a-pattern"}\n'))
    spool.put(span(input=f"my key is {KEY.decode()}"))
    spool.tend()

    content = written(tmp_path)
    for word in (KEY, b"abcdefghijklmnop", b"not-a-pattern"):
        assert word not in content
    assert b"ok\n" in content
    spool.forsake()
    (back, _) = left(tmp_path)
    assert isinstance(back, Exchange) and not back.response_truncated


def test_with_rules_of_the_app_nothing_enters_before_they_were_asked(tmp_path: Path) -> None:
    """Bodies and texts follow when the rule has cleared them; the record itself is there at once."""
    spool = another(tmp_path, redactor=Redactor([r"needle\d+"]))
    spool.begin(entry := call(b"sent needle1"))
    stream(entry, b"needle2\n")
    spool.progress(entry)
    spool.put(finish(entry, b"needle3 got\n"))
    spool.put(span(output="needle4"))
    assert b"needle" not in written(tmp_path)
    spool.tend()
    assert b"needle" not in written(tmp_path)
    spool.forsake()

    (back, work) = left(tmp_path)
    assert isinstance(back, Exchange) and isinstance(work, Span)
    assert back.request_chunks == [b"sent [redacted]"]
    assert b"".join(back.response_chunks) == b"[redacted]\n[redacted] got\n"
    assert work.output == "[redacted]"


def test_f27_a_rule_that_fails_withholds_the_body(tmp_path: Path) -> None:
    """It fails closed, in the files too."""

    def broken(_body: bytes) -> bytes:
        raise RuntimeError

    spool = another(tmp_path, redactor=Redactor(broken))
    spool.put(finish(call(b"sent words"), b"got words"))
    spool.tend()
    content = written(tmp_path)
    spool.forsake()

    assert b"words" not in content
    assert all(b"withheld" in text for text in texts(left(tmp_path)))


def test_a_span_that_lasts_comes_back(tmp_path: Path, spool: DurableSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As interrupted, with what it was told so far; one that ended does not come back a second time."""
    monkeypatch.setattr(upkeep_module, "LASTING_NS", -1)

    class Work:
        def __init__(self) -> None:
            self.span = span(outcome="running", duration_ns=None, input="asked", kind="tool")

        def tell(self) -> Span:
            return self.span

    lasting, ended, forgotten = Work(), Work(), Work()
    for work in (lasting, ended, forgotten):
        spool.opened(work.span.id, work.tell)
    del forgotten, work
    spool.tend()
    spool.put(ended.span)
    spool.forsake()

    found = {entry.id: entry for entry in left(tmp_path)}
    assert set(found) == {lasting.span.id, ended.span.id}
    assert isinstance(back := found[lasting.span.id], Span)
    assert (back.outcome, back.input, back.kind) == ("interrupted", "asked", "tool")
