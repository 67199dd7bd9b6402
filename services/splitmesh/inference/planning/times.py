"""Owns the times of a plan's parts on this machine. Reads no pixels' meaning and judges no answer."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from splitmesh.inference.energy import EnergyMeter
from splitmesh.inference.planning.parity import Part, open_part
from splitmesh.inference.planning.stages import Step, each
from splitmesh.inference.planning.whole import Whole
from splitmesh.inference.profile import energy_of_run_mj, part_timing, take_turns
from splitmesh.inference.session import open_session
from splitmesh.plan.bundle.schema import PartTiming, Strip
from splitmesh.plan.cuts.extract import Arrays
from splitmesh.plan.footage import Rgb

ROUNDS = 15
CUT_BUDGET_S = 2.0
BATCHES = (2, 4, 8)
BATCH_ROUNDS = 5
BATCH_BUDGET_S = 1.0
BATCH_BYTES = 400_000_000
"""Memory that a batch may take; larger ones are not timed here, so that planning stays small."""
_RUN_PER_FRONTIER = 4.0
"""What a run takes at its peak, in sizes of its largest frontier: measured 2 … 4, the runtime's reserve included."""

Located = tuple[str, dict[str, tuple[int, ...]], tuple[Path, Path]]
"""A cut's name, wire shapes and the paths of head and tail."""


@dataclass(frozen=True, slots=True)
class VariantFiles:
    """What else the edge may run; see `OperatingPoint.variant`."""

    wholes: Mapping[str, Path] = field(default_factory=dict)
    """Variant → a model in place of the whole."""
    heads: Mapping[str, Path] = field(default_factory=dict)
    """Cut → its head in 8-bit integers."""

    def with_whole(self, variant: str, path: Path) -> VariantFiles:
        return replace(self, wholes={**self.wholes, variant: path})

    def with_head(self, cut: str, path: Path) -> VariantFiles:
        return replace(self, heads={**self.heads, cut: path})


NO_VARIANTS = VariantFiles()


def part_times(
    whole: Whole,
    cuts: Sequence[Located],
    picture: Rgb,
    step: Step,
    *,
    providers: Sequence[str],
    batches: Sequence[int] = (),
    variants: VariantFiles = NO_VARIANTS,
    meter: EnergyMeter | None = None,
) -> dict[str, PartTiming]:
    """Times of "full", "head <cut>", "tail <cut>" and their variants on one picture, one cut loaded at a time.

    Tails that take batches are also timed on `batches` pictures at a time; see `affordable_batches`.
    The whole model takes its turn in the rounds of each cut. Its median there over its median in all rounds is the
    drift of the machine (heat, neighbours), which the others' times are freed from. `meter` adds the energy of a run.
    """
    inputs = whole.inputs(picture)
    rounds = _Rounds(partial(whole.session.run, inputs), meter)

    def runs(path: Path) -> Callable[[], object]:
        return partial(open_session(path, threads=whole.session.threads, providers=providers, lean=True).run, inputs)

    if variants.wholes or not cuts:
        rounds.add({f"full {variant}": runs(path) for variant, path in variants.wholes.items()})
    for name, shapes, paths in each(cuts, step):
        part = open_part(name, shapes, paths, threads=whole.session.threads, providers=providers)
        calls: dict[str, Callable[[], object]] = {
            f"head {name}": partial(part.head.run, inputs),
            f"tail {name}": partial(part.tail.run, part.head.run(inputs)),
        }
        if name in variants.heads:
            calls[f"head {name} int8"] = runs(variants.heads[name])
        rounds.add(calls, _batched(part, inputs, batches))
    return rounds.times()


class _Rounds:
    """Rounds in which the whole model takes its turn beside some parts."""

    def __init__(self, full: Callable[[], object], meter: EnergyMeter | None) -> None:
        self._run_full = full
        self._meter = meter
        self._full: list[float] = []
        self._parts: list[tuple[float, dict[str, list[float]]]] = []
        """The whole's median in the same rounds, and milliseconds by part."""
        self._energy_mj: dict[str, float | None] = {}

    def add(self, parts: Mapping[str, Callable[[], object]], more: Mapping[str, list[float]] | None = None) -> None:
        """Time `parts`. more: milliseconds by name that were measured at the same time."""
        calls = {"full": self._run_full, **parts}
        rounds = take_turns(calls, runs=ROUNDS, budget_s=CUT_BUDGET_S)
        for name, call in calls.items():
            if self._meter is not None and name not in self._energy_mj:
                typical_ms = statistics.median(rounds[name])
                self._energy_mj[name] = energy_of_run_mj(call, self._meter, typical_ms=typical_ms)
        own = rounds.pop("full")
        self._full += own
        self._parts.append((statistics.median(own), {**rounds, **(more or {})}))

    def times(self) -> dict[str, PartTiming]:
        typical = statistics.median(self._full)
        times = {"full": part_timing(self._full, energy_mj=self._energy_mj.get("full"))}
        for own, rounds in self._parts:
            for name, values in rounds.items():
                energy_mj = self._energy_mj.get(name)
                times[name] = part_timing(values, scale=typical / own, energy_mj=energy_mj)
        return times


def affordable_batches(strip: Strip) -> tuple[int, ...]:
    """Those of 2, 4 and 8 pictures that a model with such frontiers runs within `BATCH_BYTES`."""
    per_picture = 4 * _RUN_PER_FRONTIER * max(strip.elements, default=0)
    return tuple(size for size in BATCHES if size * per_picture <= BATCH_BYTES)


def _batched(part: Part, inputs: Arrays, batches: Sequence[int]) -> dict[str, list[float]]:
    """The tail on several pictures at a time, if it takes that."""
    if not batches or any(shape[0] is not None for shape, _ in part.tail.inputs.values()):
        return {}
    tensors = part.head.run(inputs)
    calls = {
        f"tail {part.name} b{size}": partial(
            part.tail.run, {name: np.repeat(value, size, axis=0) for name, value in tensors.items()}
        )
        for size in batches
    }
    return take_turns(calls, runs=BATCH_ROUNDS, warmup=1, budget_s=BATCH_BUDGET_S)
