"""LitServe with two worker processes, no batching. `python litserve_server.py PORT`.

It takes JSON or forms only; the picture comes as base64 in JSON, as its documentation's vision examples have it.
"""

import base64
import sys

import litserve  # type: ignore[import-not-found]  # in its own environment
from bench.peers.work import make_work, packed
from fastapi import Request, Response  # type: ignore[import-not-found]


class Boxes(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:
        self.work = make_work()

    def decode_request(self, request: Request) -> bytes:
        """It is the parsed JSON. The annotation makes it that, and is read as it stands: no postponed ones here."""
        return base64.b64decode(request["body"])

    def predict(self, body: bytes) -> bytes:
        return packed(self.work(body))

    def encode_response(self, answer: bytes) -> Response:
        return Response(answer, media_type="application/octet-stream")


if __name__ == "__main__":
    server = litserve.LitServer(Boxes(), accelerator="cpu", workers_per_device=2, timeout=60)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, log_level="warning", generate_client_file=False
    )
