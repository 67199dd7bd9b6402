"""PyTriton: Triton in front of two Python processes, no batching. `python pytriton_server.py PORT`."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from bench.peers.work import make_work, packed
from pytriton.model_config import ModelConfig, Tensor  # type: ignore[import-not-found]  # in its own environment
from pytriton.triton import Triton, TritonConfig  # type: ignore[import-not-found]


class Boxes:
    """One instance per process."""

    def __init__(self) -> None:
        self._work: Any = None

    def __call__(self, requests: Any) -> list[dict[str, Any]]:
        self._work = self._work or make_work()
        answers = [packed(self._work(request.data["body"].tobytes())) for request in requests]
        return [{"boxes": np.frombuffer(answer, np.uint8)} for answer in answers]


if __name__ == "__main__":
    config = TritonConfig(
        http_address="127.0.0.1", http_port=int(sys.argv[1]), allow_grpc=False, allow_metrics=False, log_verbose=0
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="boxes",
            infer_func=[Boxes(), Boxes()],
            inputs=[Tensor(name="body", dtype=np.uint8, shape=(-1,))],
            outputs=[Tensor(name="boxes", dtype=np.uint8, shape=(-1,))],
            config=ModelConfig(batching=False),
        )
        triton.serve()
