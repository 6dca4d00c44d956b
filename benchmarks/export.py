"""OTLP fan-out: CPU of sending records on to collectors, which are processes of this machine.

python -m benchmarks.export [--spans 5000]
"""

import argparse
import multiprocessing
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from asgi_llmobs.config import Config
from asgi_llmobs.otlp.export import Exporter, targets_of
from asgi_llmobs.pipeline import Pipeline
from asgi_llmobs.pricing import Pricer
from benchmarks.generate import entries

BATCH = 200


class Collector(BaseHTTPRequestHandler):
    """Takes everything."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def serve(said: Any) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    said.put(server.server_port)
    server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=5_000)
    options = parser.parse_args()
    pipeline = Pipeline(Config.make(), Pricer())
    records = [pipeline.process(entry) for entry in entries(options.spans)]
    context = multiprocessing.get_context("spawn")
    said = context.SimpleQueue()
    collectors = [context.Process(target=serve, args=(said,), daemon=True) for _ in range(2)]
    for process in collectors:
        process.start()
    addresses = [f"http://127.0.0.1:{said.get()}" for _ in collectors]
    for count, content in ((1, False), (1, True), (2, False), (2, True)):
        exporter = Exporter(targets_of(addresses[:count], {"service.name": "bench"}, {}), content=content)
        begin, at = time.process_time(), time.perf_counter()
        for start in range(0, len(records), BATCH):
            exporter.write(records[start : start + BATCH])
            exporter.flush(60.0)
        spent, took = time.process_time() - begin, time.perf_counter() - at
        what, each, sent = "with" if content else "without", spent / len(records) * 1e6, exporter.stats().sent
        print(
            f"{count} collectors, {what} content: {each:.0f} us a span, {len(records) / took:.0f} spans/s, {sent} sent"
        )
    for process in collectors:
        process.terminate()


if __name__ == "__main__":
    main()
