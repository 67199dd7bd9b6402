"""Ray Serve with two replicas of one request at a time each. `python ray_server.py PORT`."""

from __future__ import annotations

import sys
import threading

import ray  # type: ignore[import-not-found]  # in its own environment
from bench.peers.work import make_work, packed
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 1}, max_ongoing_requests=2)
class Boxes:
    def __init__(self) -> None:
        self.work = make_work()

    async def __call__(self, request: Request) -> Response:
        return Response(packed(self.work(await request.body())), media_type="application/octet-stream")


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Boxes.bind())  # type: ignore[attr-defined]
    threading.Event().wait()
