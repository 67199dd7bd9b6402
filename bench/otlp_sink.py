"""A collector for benchmarks: a process that takes OTLP over HTTP, reads every span and counts traces.

Run as a program it prints its port, serves until its standard input closes, then prints what it has seen as JSON.
"""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from typing import ClassVar, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

END_S = 10.0


class Sink:
    """The collector as a child process on `core`; `traces` ends it and says how many different traces it got."""

    def __init__(self, *, core: int) -> None:
        self._core = core

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "bench.otlp_sink", str(self._core)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line.strip().isdigit():
            raise RuntimeError("the collector did not start")
        self.url = f"http://127.0.0.1:{line.strip()}"
        return self

    def traces(self) -> int:
        out, _ = self._process.communicate(timeout=END_S)
        return int(json.loads(out)["traces"])

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class _Receive(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    traces: ClassVar[set[bytes]] = set()

    def do_POST(self) -> None:
        message = ExportTraceServiceRequest.FromString(self._body())
        for resource in message.resource_spans:
            for scope in resource.scope_spans:
                self.traces.update(span.trace_id for span in scope.spans)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def _body(self) -> bytes:
        raw = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            raise ValueError("compressed spans are not read here")
        return raw

    def log_message(self, format: str, *args: object) -> None:
        return


def main() -> int:
    os.sched_setaffinity(0, {int(sys.argv[1])})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Receive)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    server.shutdown()
    print(json.dumps({"traces": len(_Receive.traces)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
