"""Mosec with two worker processes. `python mosec_server.py PORT`.

As its documentation has it for CPU: one `Worker` class, `num` processes, no batching for a model of fixed batch 1.
"""

from __future__ import annotations

import sys

from bench.peers.work import make_work, packed
from mosec import Server, Worker  # type: ignore[import-not-found]  # in its own environment

_PORT = sys.argv[1]
_WAITING = "1024"


class Boxes(Worker):  # type: ignore[misc]
    """Bytes in, bytes out: no JSON on the way."""

    def __init__(self) -> None:
        self.work = make_work()

    def deserialize(self, data: bytes) -> bytes:
        return data

    def serialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: bytes) -> bytes:
        return packed(self.work(data))


if __name__ == "__main__":
    sys.argv[1:] = ["--port", _PORT, "--address", "127.0.0.1", "--capacity", _WAITING, "--timeout", "60000"]
    server = Server()
    server.append_worker(Boxes, num=2)
    server.run()
