"""Owns the loaded halves of the model on the edge: full, heads, tails. Each runs inside a device job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splitmesh.edge.device import DeviceJob
from splitmesh.frames.answer import Answer
from splitmesh.inference.session import Session, open_session
from splitmesh.plan.bundle.read import Bundle

Tensors = dict[str, npt.NDArray[np.float32]]
_WARM_UP_RUNS = 2


class Parts:
    """Opens every part of `bundle` once, and warms it up; raises ModelError or InferenceError naming the file."""

    def __init__(
        self, bundle: Bundle, *, threads: int, cuts: frozenset[str], providers: Sequence[str] = ("auto",)
    ) -> None:
        self._input = bundle.manifest.input
        self._postprocess = bundle.postprocess()

        def opened(path: Path) -> Session:
            return open_session(path, threads=threads, providers=providers)

        self._full = opened(bundle.full_path)
        self._heads = {cut: opened(bundle.head_path(cut)) for cut in sorted(cuts)}
        self._tails = {cut: opened(bundle.tail_path(cut)) for cut in sorted(cuts)}
        self.provider = self._full.provider
        size = (1, 3, bundle.manifest.height, bundle.manifest.width)
        self._warm_up(np.zeros(size, np.float32))

    def full(self, job: DeviceJob[Any], tensor: npt.NDArray[np.float32]) -> Answer:
        """`tensor`: (1, 3, h, w) float32, normalised. The answer is in [0, 1] of the model's input."""
        return self._postprocess(job.run_model(self._full, {self._input: tensor}))

    def head(self, job: DeviceJob[Any], cut: str, tensor: npt.NDArray[np.float32]) -> Tensors:
        return job.run_model(self._heads[cut], {self._input: tensor})

    def tail(self, job: DeviceJob[Any], cut: str, tensors: Tensors) -> Answer:
        return self._postprocess(job.run_model(self._tails[cut], tensors))

    def _warm_up(self, tensor: npt.NDArray[np.float32]) -> None:
        for _ in range(_WARM_UP_RUNS):
            self._postprocess(self._full.run({self._input: tensor}))
            for cut, head in self._heads.items():
                self._tails[cut].run(_only_inputs(self._tails[cut], head.run({self._input: tensor})))


def _only_inputs(session: Session, tensors: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    return {name: tensors[name] for name in session.inputs}
