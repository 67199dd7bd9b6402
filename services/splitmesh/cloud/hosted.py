"""Owns one model as a worker serves it: the whole and every tail, from decoded inputs to answer, in one call.

Runs on an executor's thread; touches no event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from splitmesh.cloud.decoders import Content, Expected, decode_alone
from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.features import encode_features
from splitmesh.codec.picture import encode_picture
from splitmesh.errors import FrameShapeError, InferenceError, MeshError, ModelError
from splitmesh.frames.answer import F32, Answer
from splitmesh.frames.normalize import Normalizer
from splitmesh.inference.session import Session, open_session
from splitmesh.plan.bundle.read import Bundle
from splitmesh.wire.messages import HostedModel

_WARM_RUNS = 5


class Abandoned(MeshError):
    """The edge no longer needs this frame."""


@dataclass(frozen=True, slots=True)
class Executed:
    """An answer, and the monotonic nanoseconds between its steps."""

    answer: Answer
    start_ns: int
    decoded_ns: int
    ran_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class _Part:
    """The session behind one cut, and what its payload must hold."""

    session: Session
    expected: Expected


class Hosted:
    """Sessions for the whole model (cut "") and all cuts of `bundle`. `execute` may run on several threads."""

    def __init__(self, bundle: Bundle, *, threads: int, providers: Sequence[str] = ("auto",)) -> None:
        """Opens every session; slow. Raises ModelError."""
        self.bundle = bundle
        manifest = bundle.manifest
        self.model = manifest.name
        self.sha256 = bundle.sha256
        self._size = (manifest.height, manifest.width)
        self._normalizer = Normalizer.from_manifest(manifest)
        self._postprocess = bundle.postprocess()
        whole = open_session(bundle.full_path, threads=threads, providers=providers)
        self._parts = {"": _Part(whole, Expected({}, self._size))}
        for cut in bundle.cuts:
            session = open_session(bundle.tail_path(cut.name), threads=threads, providers=providers)
            self._parts[cut.name] = _Part(session, Expected(cut.shapes, self._size))

    @property
    def cuts(self) -> tuple[str, ...]:
        """Names of the cuts, and "" for the whole model."""
        return tuple(self._parts)

    @property
    def provider(self) -> str:
        return self._parts[""].session.provider

    def announced(self) -> HostedModel:
        """As heartbeats say it. Raises WireError if a name does not fit a subject."""
        return HostedModel(self.model, self.sha256, tuple(cut for cut in self._parts if cut))

    def check(self, cut: str, sha256: str) -> None:
        """Raises ModelError unless this very model is held, and cut there."""
        if sha256 != self.sha256:
            raise ModelError(f"{self.model} here is {self.sha256[:12]}, not {sha256[:12]}")
        if cut not in self._parts:
            raise ModelError(f"{self.model} is not cut at {cut!r} here, only at {', '.join(self.announced().cuts)}")

    def expected(self, cut: str) -> Expected:
        """What a payload for `cut` must hold."""
        return self._parts[cut].expected

    def tables(self) -> dict[tuple[str, str], CompactTable]:
        """The plan's calibration tables, by model and cut."""
        found = {cut.name: self.bundle.table(cut.name) for cut in self.bundle.cuts}
        return {(self.model, cut): table for cut, table in found.items() if table is not None}

    def execute(
        self, cut: str, decode: Callable[[], Content], abandoned: Callable[[], bool] = lambda: False
    ) -> Executed:
        """Decode, run, post-process. `abandoned` is asked between the steps.

        Raises what `decode` raises, FrameShapeError, InferenceError, Abandoned.
        """
        part = self._parts[cut]
        start = time.monotonic_ns()
        inputs = self._inputs(decode())
        decoded = time.monotonic_ns()
        if abandoned():
            raise Abandoned("cancelled before the model ran")
        outputs = part.session.run(inputs)
        ran = time.monotonic_ns()
        if abandoned():
            raise Abandoned("cancelled while the model ran")
        try:
            answer = self._postprocess(outputs)
        except (ModelError, FrameShapeError) as exc:
            raise InferenceError(f"outputs of {self.model} at {cut or 'no cut'} can't be read: {exc}") from exc
        return Executed(answer, start, decoded, ran, time.monotonic_ns())

    def _inputs(self, content: Content) -> dict[str, F32]:
        if isinstance(content, dict):
            return content
        return {self.bundle.manifest.input: self._normalizer.normalize(content)}

    def warm_up(self) -> dict[str, int]:
        """Run every part until caches and kernels are warm; cut → nanoseconds of the median run."""
        return {cut: self.median_ns(cut) for cut in self._parts}

    def median_ns(self, cut: str) -> int:
        """What it takes to serve a grey picture at `cut`, the median of a few runs.

        Tails get what their heads make of it: made-up features could be far from anything the tail can digest.
        """
        grey, part = np.full((*self._size, 3), 128, np.uint8), self._parts[cut]
        if part.expected.shapes:
            inputs = {self.bundle.manifest.input: self._normalizer.normalize(grey)}
            features = open_session(self.bundle.head_path(cut), providers=("cpu",)).run(inputs)
            payload = encode_features(features, codec="u8zstd", level=8)
        else:
            payload = encode_picture(grey, quality=85)
        runs = [self.execute(cut, partial(self._decode_alone, payload, part)) for _ in range(_WARM_RUNS)]
        return sorted(run.end_ns - run.start_ns for run in runs)[_WARM_RUNS // 2]

    @staticmethod
    def _decode_alone(payload: bytes, part: _Part) -> Content:
        return decode_alone(payload, part.expected, lambda _: None)

    def __repr__(self) -> str:
        return f"<Hosted {self.model} {self.sha256[:12]} cuts={list(self.announced().cuts)} on {self.provider}>"
