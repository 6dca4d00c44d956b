"""What a spool's thread does: write what came late, make room, keep open calls apart, take over what the dead left."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from asgi_llmobs import encodings
from asgi_llmobs.records import Exchange, Span
from asgi_llmobs.redaction import Redactor
from asgi_llmobs.safely import report, safely
from asgi_llmobs.spool import serial
from asgi_llmobs.spool.adoption import Estate, estates
from asgi_llmobs.spool.base import CALL_BYTES, Entry, weight, without_bodies
from asgi_llmobs.spool.frames import Kind
from asgi_llmobs.spool.item import GONE, WAITING, Item, Stretch
from asgi_llmobs.spool.ledger import Ledger, Open
from asgi_llmobs.spool.segment import MOVED, Place, Segment

__all__ = ["Upkeep"]

ADOPT_SECONDS = 5.0
ROOM_SECONDS = 0.2  # that making room takes at a time
LATE_SECONDS = 0.5  # that writing what came late does
PART_SECONDS = 0.25  # how often it is noted what streams slowly
IDLE_SECONDS = 1.0
TURN_SECONDS = 1.0  # that the end waits for a look that is under way
LASTING_NS = 100_000_000  # a call that is under way for longer has its request noted
DECODE_LIMIT = 64 * 1024 * 1024
BREATH = 0.0002  # who waits for the lock or the interpreter gets it


class Upkeep:
    """Looks after the files of *spool*.

    Args:
        spool: Whose files.
        redactor: The app's rules, where it has any.
        full: Whether the texts of spans are kept.
    """

    def __init__(self, spool: Ledger, redactor: Redactor | None, *, full: bool) -> None:
        self._spool = spool
        self._redactor = redactor
        self._full = full
        self._plain = full and redactor is None
        self._estates: set[Estate] = set()
        self._strange: set[str] = set()  # folders that are not ours to take
        self._lost: set[Segment] = set()
        self._suspect: deque[Stretch] = deque()  # of what waits, not yet asked whether it stands in those
        self._turn = threading.Lock()  # where no thread can be had for it, several may be at it
        self.adopt_at = 0.0

    def look(self) -> None:
        """Everything that is due."""
        with self._turn:
            self._look()

    def _look(self) -> None:
        with safely("spool files"):
            self._rescue(self._spool.journal.look_after())
        with safely("spool late"):
            self._write_late()
        with safely("spool parts"):
            self._note_open()
        with safely("spool spans"):
            self._note_spans()
        with safely("spool room"):
            self._make_room()
        with safely("spool leftovers"):
            self._settle()
        if time.monotonic() >= self.adopt_at:
            with safely("spool adoption"):
                self._adopt()
            self.adopt_at = time.monotonic() + ADOPT_SECONDS

    def pause(self) -> float:
        """Seconds until the next look."""
        spool = self._spool
        return PART_SECONDS if spool.open or spool.spans or not spool.empty() else IDLE_SECONDS

    # what is written late

    def _write_late(self) -> None:
        late, until = self._spool.late, time.monotonic() + LATE_SECONDS
        while late and time.monotonic() < until:
            item = late[0]
            if item.state != GONE and item.late and not self._write(item):
                return
            late.popleft()
            time.sleep(BREATH)

    def _write(self, item: Item) -> bool:
        spool, entry = self._spool, item.entry
        if entry is None:
            return True
        place = spool.journal.write(*self._record(entry), call=item.call)
        if place is None:
            return False
        with spool.lock:
            stale = [place] if item.state == GONE else item.places
            if item.state != GONE:
                item.places, item.recorded, item.late = [place], True, False
                spool.queue.relieve()
        spool.journal.release(stale, MOVED)
        return True

    def _record(self, entry: Entry) -> tuple[int, bytes]:
        redactor = self._redactor
        if isinstance(entry, Span):
            if redactor is not None and self._full:
                entry = safe_span(entry, redactor)
            return Kind.SPAN, serial.span(entry, full=self._full)
        secrets = serial.secrets_in(entry)
        if redactor is not None:
            entry = safe_exchange(entry, redactor, secrets)
        return Kind.END, serial.end(entry, secrets, 0, started=False)

    def _rescue(self, lost: Sequence[Segment]) -> None:
        """Files are gone: what waited in them is written again, as long as it can be had."""
        spool, until = self._spool, time.monotonic() + LATE_SECONDS
        if lost:
            self._lost |= set(lost)
            with spool.lock:
                self._suspect = deque(spool.queue.stretches())
                for state in spool.open.values():
                    if any(place[0] in self._lost for place in state.places):
                        state.places, state.index, state.size, state.told = [], 0, -1, False
                spool.roots = {id: root for id, root in spool.roots.items() if root[1][0] not in self._lost}
        while self._suspect and time.monotonic() < until:
            with spool.lock:
                items = spool.queue.standing_in(self._lost, self._suspect.popleft())
            for item in items:
                try:
                    self._write_again(item)
                finally:
                    with spool.lock:
                        spool.queue.settle(item)
        if not self._suspect:
            self._lost.clear()

    def _write_again(self, item: Item) -> None:
        spool, entry = self._spool, item.entry
        with safely("spool read"):
            entry = entry or spool.read(item)
        with spool.lock:
            if item.state != WAITING:
                return
            if entry is None:
                spool.queue.drop(item, "spool damaged")
                return
            stale, item.places, item.recorded, item.late = item.places, [], False, True
            spool.queue.hold(item, entry)
        spool.journal.release(stale, MOVED)
        if not self._write(item):
            with spool.lock:
                spool.postpone(item)
                spool.queue.relieve()

    # what is under way

    def _note_open(self) -> None:
        """What streamed last, also where no further chunk comes; long calls leave files that are otherwise empty."""
        spool = self._spool
        for key, state in list(spool.open.items()):
            lasting = time.monotonic_ns() - state.entry.clock_ns > LASTING_NS
            if not state.places or (lasting and state.size != state.entry.request_size):
                self._note_request(key, state)
            with spool.lock:
                if spool.open.get(key) is state:
                    spool.note(state)
            if state.index < spool.reached(state):
                self._note_large(key, state)
            if self._pins(state.places):
                self._move(key, state)
        for span_id, (call, place) in list(spool.roots.items()):
            if self._pins([place]):
                self._move_root(span_id, call, place)

    def _note_spans(self) -> None:
        """Spans of the app that last."""
        spool, until = self._spool, time.monotonic_ns() - LASTING_NS
        for id, (began, tell) in list(spool.spans.items()):
            if began > until or id in spool.roots:
                continue
            told = tell()
            span = told() if told is not None else None
            if span is None:
                spool.spans.pop(id, None)
                continue
            call = spool.number()
            place = spool.journal.write(Kind.ROOT, serial.span(span, full=self._plain), call=call)
            if place is None:
                return
            with spool.lock:
                there = id in spool.spans and id not in spool.roots
                if there:
                    spool.roots[id] = call, place
            if not there:
                spool.journal.release([place])

    def _note_request(self, key: int, state: Open) -> None:
        spool, entry = self._spool, state.entry
        size = entry.request_size
        bodies = self._redactor is None
        place = spool.journal.write(Kind.START, serial.begun(entry, state.known(), bodies=bodies), call=state.call)
        if place is None:
            return
        with spool.lock:
            there = spool.open.get(key) is state
            if there:
                state.places.append(place)
                state.size = size if bodies else -1
        if not there:
            spool.journal.release([place], MOVED)

    def _note_large(self, key: int, state: Open) -> None:
        spool, index, stop = self._spool, state.index, self._spool.reached(state)
        payload = serial.part(state.entry, state.known(), index, stop)
        place = spool.journal.write(Kind.PART, payload, call=state.call)
        if place is None:
            return
        with spool.lock:
            there = spool.open.get(key) is state and state.index == index
            if there:
                state.places.append(place)
                state.index, state.told = stop, True
        if not there:
            spool.journal.release([place], MOVED)

    def _pins(self, places: Sequence[Place]) -> bool:
        """Whether only what is under way keeps the file where it stands from being used again."""
        spool = self._spool
        oldest = spool.journal.oldest
        if oldest is None or oldest.live > 3 * (len(spool.open) + len(spool.roots)):
            return False
        return any(segment is oldest for segment, _ in places)

    def _move(self, key: int, state: Open) -> None:
        spool, before = self._spool, list(state.places)
        new = spool.journal.move(before)
        if new is None:
            return
        with spool.lock:
            there = spool.open.get(key) is state and state.places[: len(before)] == before
            if there:
                state.places[: len(before)] = new
        spool.journal.release(before if there else new, MOVED)

    def _move_root(self, span_id: str, call: int, place: Place) -> None:
        spool = self._spool
        new = spool.journal.move([place])
        if new is None:
            return
        with spool.lock:
            there = spool.roots.get(span_id) == (call, place)
            if there:
                spool.roots[span_id] = call, new[0]
        spool.journal.release([place] if there else new, MOVED)

    # room

    def _make_room(self) -> None:
        """The files are near their cap: the oldest calls give up their bodies, then the oldest calls go."""
        spool, until = self._spool, time.monotonic() + ROOM_SECONDS
        while time.monotonic() < until and spool.journal.pressed():
            with spool.lock:
                item = spool.queue.fattest()
                if item is None:
                    spool.queue.drop_oldest()
            if item is not None:
                try:
                    self._thin(item)
                finally:
                    with spool.lock:
                        spool.queue.settle(item)
            spool.journal.make_free()
            time.sleep(BREATH)

    def _thin(self, item: Item) -> None:
        spool = self._spool
        entry = item.entry or spool.read(item)
        bare = without_bodies(entry) if entry is not None else None
        if bare is None:
            return
        if isinstance(bare, Exchange):
            quiet = self._redactor is None
            payload = serial.end(bare, serial.secrets_in(bare), 0, started=False, message=quiet)
            kind = Kind.END
        else:
            kind, payload = Kind.SPAN, serial.span(bare, full=self._plain)
        place = spool.journal.write(kind, payload, call=item.call, beyond=True)
        with spool.lock:
            stale = item.places
            if item.state != WAITING:
                stale = [place] if place is not None else []
            elif place is None:
                spool.queue.drop(item)
                return
            else:
                spool.queue.bodies_dropped += 1
                item.places, item.recorded, item.late = [place], True, False
                spool.queue.resize(item, entry=None, size=weight(bare))
        spool.journal.release(stale, MOVED)

    # what the dead left

    def _adopt(self) -> None:
        spool = self._spool
        for estate in estates(spool.journal.root, spool.journal.folder, self._strange):
            try:
                found = estate.open()
            except OSError as error:
                self._strange.add(estate.folder)
                report("spool adoption", error)
                estate.forsake()
                continue
            self._estates.add(estate)  # not before it is known what waits: another thread deletes what seems empty
            for left in found:
                item = Item(None, left.size + CALL_BYTES, left.places, left.call)
                item.origin = left.origin
                spool.found(item)
            with spool.lock:
                spool.damaged.update(estate.damaged)
            if estate.foreign:
                self._strange.add(estate.folder)
            if found:
                spool.wake()
        self._settle()

    def _settle(self) -> None:
        for estate in list(self._estates):
            estate.settle()
            if estate.over:
                self._estates.discard(estate)

    # at the end

    def close(self) -> None:
        """Write what came late, let go of what the dead left and nobody needs any more."""
        if not self._turn.acquire(timeout=TURN_SECONDS):
            return  # somebody stands still before a disk: what is in the files is found by the next start
        try:
            if not self._spool.empty():
                self._write_late()
            self._settle()
        finally:
            self._turn.release()

    def forsake(self) -> None:
        """Close every file of the dead and delete none."""
        for estate in self._estates:
            estate.forsake()
        self._estates.clear()


def safe_span(span: Span, redactor: Redactor) -> Span:
    """A span with its texts as the app's rules leave them."""
    texts: dict[str, Any] = {name: redactor.text(getattr(span, name) or "") or None for name in serial.TEXTS}
    return replace(span, **texts)


def safe_exchange(exchange: Exchange, redactor: Redactor, secrets: Sequence[bytes]) -> Exchange:
    """A call with its bodies as the app's rules leave them; the call itself stays as it is."""
    sent, got = b"".join(exchange.request_chunks), list(exchange.response_chunks)
    given: dict[str, Any] = {}
    if sent:
        coded = header(exchange.request_headers, b"content-encoding")
        given["request_chunks"] = [redactor.body(sent, secrets)] if not coded else []
        given["request_truncated"] = exchange.request_truncated or bool(coded)
    if got:
        coding = "" if exchange.decoded else header(exchange.response_headers, b"content-encoding")
        decoded = encodings.decode(got, coding, DECODE_LIMIT)
        kept = redactor.body(decoded.body, secrets)
        if coding or kept != decoded.body:
            given.update(response_chunks=[kept], chunk_clocks=exchange.chunk_clocks[-1:], decoded=True)
    if exchange.error_message:
        given["error_message"] = redactor.text(exchange.error_message, secrets)
    return replace(exchange, **given)


def header(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in headers if key.lower() == name), "")
