"""Owns one model as a worker serves it: the whole and every tail, from decoded inputs to answers, in one call.

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
from splitmesh.inference.session import Array, Session, open_session
from splitmesh.plan.bundle.read import Bundle
from splitmesh.schedule.batching import worthwhile_size
from splitmesh.wire.messages import HostedModel

_WARM_RUNS = 5
_BATCH_RUNS = 3
BATCHES = (2, 4, 8, 16, 32)
"""Sizes that are timed while the worker warms up, as far as they pay."""


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

    @property
    def batchable(self) -> bool:
        """It takes any number of pictures at a time; a plan leaves that open only where it holds."""
        ports = (*self.session.inputs.values(), *self.session.outputs.values())
        return all(shape and shape[0] is None for shape, _ in ports)


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
        answer = self._answer(cut, outputs)
        return Executed(answer, start, decoded, ran, time.monotonic_ns())

    def execute_together(
        self, cut: str, decodes: Sequence[Callable[[], Content]], abandoned: Sequence[Callable[[], bool]]
    ) -> list[Executed | Exception]:
        """As `execute` for each of several requests, with one run of the model for all of them.

        What ails one is its own: a payload that can't be decoded, or features that make NaN of the answer.
        """
        part, start = self._parts[cut], time.monotonic_ns()
        inputs: dict[int, dict[str, F32]] = {}
        ends: dict[int, Executed | Exception] = {}
        for place, (decode, given_up) in enumerate(zip(decodes, abandoned, strict=True)):
            try:
                inputs[place] = self._inputs(decode())
                if given_up():
                    del inputs[place]
                    ends[place] = Abandoned("cancelled before the model ran")
            except Exception as exc:  # noqa: BLE001 - told to its sender alone
                ends[place] = exc
        decoded = time.monotonic_ns()
        outputs = self._run_together(part, list(inputs.values()))
        ran = time.monotonic_ns()
        for place, output in zip(inputs, outputs, strict=True):
            try:
                if isinstance(output, Exception):
                    raise output
                if abandoned[place]():
                    raise Abandoned("cancelled while the model ran")
                ends[place] = Executed(self._answer(cut, output), start, decoded, ran, time.monotonic_ns())
            except Exception as exc:  # noqa: BLE001 - told to its sender alone
                ends[place] = exc
        return [ends[place] for place in range(len(decodes))]

    def _run_together(
        self, part: _Part, inputs: Sequence[dict[str, F32]]
    ) -> Sequence[dict[str, Array] | InferenceError]:
        """Outputs of each, leading axis 1, from one run of the stacked inputs; by themselves if that fails."""
        try:
            return self._stacked(part, inputs) if inputs else []
        except InferenceError as exc:
            if len(inputs) == 1:
                return [exc]
            return [each for one in inputs for each in self._run_together(part, [one])]

    @staticmethod
    def _stacked(part: _Part, inputs: Sequence[dict[str, F32]]) -> list[dict[str, Array]]:
        count = len(inputs)
        stacked = {name: np.concatenate([each[name] for each in inputs]) for name in inputs[0]}
        outputs = part.session.run(stacked)
        if any(len(value) != count for value in outputs.values()):
            raise InferenceError(f"a batch of {count} did not give {count} answers")
        return [{name: value[place : place + 1] for name, value in outputs.items()} for place in range(count)]

    def _answer(self, cut: str, outputs: dict[str, Array]) -> Answer:
        try:
            return self._postprocess(outputs)
        except (ModelError, FrameShapeError) as exc:
            raise InferenceError(f"outputs of {self.model} at {cut or 'no cut'} can't be read: {exc}") from exc

    def _inputs(self, content: Content) -> dict[str, F32]:
        if isinstance(content, dict):
            return content
        return {self.bundle.manifest.input: self._normalizer.normalize(content)}

    def warm_up(self, max_batch: int = 1) -> dict[str, dict[int, int]]:
        """Run every part until caches and kernels are warm; cut → size → nanoseconds that so many requests take at
        once: of 1 the median, of more the slowest run. Sizes from 2 to `max_batch` are tried where they can be, and
        as long as they pay.
        """
        return {cut: self._times(cut, max_batch) for cut in self._parts}

    def median_ns(self, cut: str) -> int:
        """What it takes to serve a grey picture at `cut`, the median of a few runs."""
        return _median_ns(partial(self.execute, cut, self._grey(cut)), _WARM_RUNS)

    def _times(self, cut: str, max_batch: int) -> dict[int, int]:
        decode = self._grey(cut)
        taken = {1: _median_ns(partial(self.execute, cut, decode), _WARM_RUNS)}
        for size in BATCHES if self._parts[cut].batchable else ():
            if size > max_batch:
                break
            together = partial(self.execute_together, cut, [decode] * size, [lambda: False] * size)
            taken[size] = max(_runs_ns(together, _BATCH_RUNS))  # what pays must do so in a bad moment too
            if worthwhile_size(taken) < size:
                break
        return taken

    def _grey(self, cut: str) -> Callable[[], Content]:
        """What decodes a grey picture's payload for `cut`.

        Tails get what their heads make of it: made-up features could be far from anything the tail can digest.
        """
        grey, part = np.full((*self._size, 3), 128, np.uint8), self._parts[cut]
        if part.expected.shapes:
            inputs = {self.bundle.manifest.input: self._normalizer.normalize(grey)}
            features = open_session(self.bundle.head_path(cut), providers=("cpu",)).run(inputs)
            payload = encode_features(features, codec="u8zstd", level=8)
        else:
            payload = encode_picture(grey, quality=85)
        return partial(decode_alone, payload, part.expected, lambda _: None)

    def __repr__(self) -> str:
        return f"<Hosted {self.model} {self.sha256[:12]} cuts={list(self.announced().cuts)} on {self.provider}>"


def _median_ns(call: Callable[[], object], runs: int) -> int:
    return sorted(_runs_ns(call, runs))[runs // 2]


def _runs_ns(call: Callable[[], object], runs: int) -> list[int]:
    taken = []
    for _ in range(runs):
        start = time.monotonic_ns()
        call()
        taken.append(time.monotonic_ns() - start)
    return taken
