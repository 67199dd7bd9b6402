"""Owns the loaded halves of the model on the edge: full, heads, tails. Each runs inside a device job."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splitmesh.edge.device import DeviceJob
from splitmesh.frames.answer import Answer
from splitmesh.inference.session import Session, open_session
from splitmesh.plan.bundle.read import Bundle
from splitmesh.policy.point import OperatingPoint, Place

Tensors = dict[str, npt.NDArray[np.float32]]
_WARM_UP_RUNS = 2


class Parts:
    """Opens every part that `points` need, once, and warms it up; raises ModelError or InferenceError naming it."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int,
        points: Collection[OperatingPoint],
        providers: Sequence[str] = ("auto",),
    ) -> None:
        self._input = bundle.manifest.input

        def opened(path: Path) -> Session:
            return open_session(path, threads=threads, providers=providers)

        variants = {"", *(point.variant for point in points if point.place is Place.LOCAL)}
        self._wholes = {name: opened(bundle.local_path(name)) for name in sorted(variants)}
        self._read = {name: bundle.postprocess(name) for name in sorted(variants)}
        heads = {(point.cut, point.variant) for point in points if point.cut}
        self._heads = {(cut, name): opened(bundle.head_path(cut, name)) for cut, name in sorted(heads)}
        self._tails = {cut: opened(bundle.tail_path(cut)) for cut in sorted({cut for cut, _ in heads})}
        self.provider = self._wholes[""].provider
        size = (1, 3, bundle.manifest.height, bundle.manifest.width)
        self._warm_up(np.zeros(size, np.float32))

    def full(self, job: DeviceJob[Any], variant: str, tensor: npt.NDArray[np.float32]) -> Answer:
        """`tensor`: (1, 3, h, w) float32, normalised. The answer is in [0, 1] of the model's input.

        variant: "" for the model itself, else what stands in for it here; see `OperatingPoint.variant`.
        """
        return self._read[variant](job.run_model(self._wholes[variant], {self._input: tensor}))

    def head(self, job: DeviceJob[Any], cut: str, variant: str, tensor: npt.NDArray[np.float32]) -> Tensors:
        return job.run_model(self._heads[cut, variant], {self._input: tensor})

    def tail(self, job: DeviceJob[Any], cut: str, tensors: Tensors) -> Answer:
        return self._read[""](job.run_model(self._tails[cut], tensors))

    def _warm_up(self, tensor: npt.NDArray[np.float32]) -> None:
        inputs = {self._input: tensor}
        for _ in range(_WARM_UP_RUNS):
            for name, whole in self._wholes.items():
                self._read[name](whole.run(inputs))
            for (cut, _), head in self._heads.items():
                self._tails[cut].run(_only_inputs(self._tails[cut], head.run(inputs)))


def _only_inputs(session: Session, tensors: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    return {name: tensors[name] for name in session.inputs}
