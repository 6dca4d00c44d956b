"""The log of a SQLite file does not grow without end, however many read."""

import os
import threading
import time
from pathlib import Path

import pytest

from asgi_llmobs.store.database import Database
from asgi_llmobs.store.write import Sink
from tests.making import request

MOST = 64 << 20  # bytes
TEXT = " ".join(str(number * 7919) for number in range(4_000))


@pytest.mark.slow
def test_f33_readers_that_never_all_pause(tmp_path: Path) -> None:
    """One after the other holds an old state: SQLite by itself would begin its log anew only when none does."""
    database = Database(f"sqlite:///{tmp_path / 'llmobs.db'}")
    sink, over = Sink(database), threading.Event()
    sink.write([request("first")])

    def read() -> None:
        while not over.is_set():
            with database.read() as connection:
                connection.exec_driver_sql("SELECT count(*) FROM llmobs_spans").all()
                over.wait(0.3)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    written, longest, until = 0, 0, time.monotonic() + 15
    while time.monotonic() < until:
        sink.write([request(f"{written} {number} {TEXT}") for number in range(10)])
        sink.tend()
        written += 10
        longest = max(longest, os.stat(tmp_path / "llmobs.db-wal").st_size)
        time.sleep(0.05)
    over.set()
    for thread in threads:
        thread.join()
    size = os.stat(tmp_path / "llmobs.db").st_size
    database.dispose()

    assert written > 200 and size > 0
    assert longest <= MOST, f"{longest >> 20} MB of log beside {size >> 20} MB"
