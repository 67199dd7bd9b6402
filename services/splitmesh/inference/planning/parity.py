"""Owns whether the two parts of a cut, one after the other, give what the whole model gives. Measures no time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splitmesh.errors import MeshError, ModelError
from splitmesh.inference.planning.cutting import Precision
from splitmesh.inference.planning.whole import Whole, same_bits
from splitmesh.inference.session import Port, Session, open_session
from splitmesh.plan.cuts.extract import Arrays, relative_error
from splitmesh.plan.footage import Sample

OTHER_COUNTS = 8
"""One frame in so many may have another number of things."""


@dataclass(frozen=True, slots=True)
class Part:
    """A cut with its two loaded halves. `shapes`: wire name → shape."""

    name: str
    shapes: dict[str, tuple[int, ...]]
    head: Session
    tail: Session


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a cut's parts give what the whole model gives."""

    cut: str
    max_rel: float
    """Worst relative difference over all frames and outputs; inf if the parts do not run."""
    limit: float
    frames: int
    deterministic: bool
    """Two runs on the same frame gave the same bits."""
    reason: str
    """Why the cut must go; "" if it may stay."""

    @property
    def holds(self) -> bool:
        return not self.reason


def failed(cut: str, precision: Precision, reason: str) -> Verdict:
    """There is nothing to compare."""
    return Verdict(cut, float("inf"), precision.limit, 0, False, reason)


def open_part(
    name: str, shapes: dict[str, tuple[int, ...]], paths: tuple[Path, Path], *, threads: int, providers: Sequence[str]
) -> Part:
    """Load head and tail from `paths`. Raises ModelError."""
    head, tail = (open_session(path, threads=threads, providers=providers, lean=True) for path in paths)
    for half, ports in (("head", head.outputs), ("tail", tail.inputs)):
        if odd := sorted(shapes.keys() ^ ports.keys()):
            raise ModelError(f"the {half} of {name} does not carry exactly the cut's tensors: {', '.join(odd)}")
    return Part(name, shapes, head, tail)


def check_parity(whole: Whole, part: Part, samples: Sequence[Sample], precision: Precision) -> Verdict:
    """Run both halves over `samples` and hold them against the whole.

    An error of the runtime in either half, NaN included, is a reason, not an error. Floats are compared by
    `relative_error`, whole numbers and truth values by the share of elements that differ. Outputs whose shapes
    depend on the picture (what a suppression keeps) are compared where they have the same shape. On one frame in
    `OTHER_COUNTS` they may lack rows of the whole's or have more, if the others are the same: a candidate on a
    threshold falls either way by a difference in the seventh digit.
    """
    worst, counts, steady = 0.0, 0, True
    try:
        for index, (sample, inputs, wanted) in enumerate(whole.cases(samples)):
            got = part.tail.run(part.head.run(inputs))
            if index == 0:
                steady = same_bits(got, part.tail.run(part.head.run(inputs)))
            other = _other_shapes(got, wanted)
            if not other:
                worst = max(worst, output_error(got, wanted))
                continue
            counts += 1
            if counts * OTHER_COUNTS > len(samples) or not _only_counts_differ(
                whole.session.outputs, got, wanted, precision.limit
            ):
                return failed(part.name, precision, f"{other} on {sample.where}")
    except MeshError as exc:
        return failed(part.name, precision, f"its parts do not run: {exc.message}")
    reason = ""
    if worst > precision.limit:
        reason = f"tail∘head is {worst:.2e} (relative) off the whole model, limit {precision.limit:.0e}"
        reason += "" if precision.name == "fp32" else f" for {precision.name}"
    return Verdict(part.name, worst, precision.limit, len(samples), steady, reason)


def output_error(got: Arrays, wanted: Arrays) -> float:
    """Worst over all outputs; see `check_parity`."""
    errors = [0.0]
    for name, want in wanted.items():
        have = got.get(name)
        if have is not None and have.shape == want.shape and want.dtype.kind in "iub":
            errors.append(float(np.mean(have != want)) if want.size else 0.0)
        else:
            errors.append(relative_error({} if have is None else {name: have}, {name: want}))
    return max(errors)


def same_outputs(got: Arrays, wanted: Arrays, precision: Precision) -> bool:
    """Equal shapes, and values within the limit."""
    return not _other_shapes(got, wanted) and output_error(got, wanted) <= precision.limit


def _only_counts_differ(ports: Mapping[str, Port], got: Arrays, wanted: Arrays, limit: float) -> bool:
    """Each output has the wanted values, but for rows along one open axis that only one side has."""
    for name, want in wanted.items():
        have = got.get(name)
        if have is None or have.ndim != want.ndim:
            return False
        axes = [axis for axis in range(want.ndim) if have.shape[axis] != want.shape[axis]]
        if not axes:
            continue
        if len(axes) > 1 or ports[name][0][axes[0]] is not None:
            return False
        few, many = sorted((_rows(have, axes[0]), _rows(want, axes[0])), key=len)
        allowed = limit * max(float(np.abs(many).max(initial=0.0)), 1e-6)
        if not all((np.abs(many - row).max(axis=1, initial=0.0) <= allowed).any() for row in few):
            return False
    return True


def _rows(values: npt.NDArray[Any], axis: int) -> npt.NDArray[np.float64]:
    return np.moveaxis(values, axis, 0).astype(np.float64).reshape(values.shape[axis], -1)


def _other_shapes(got: Arrays, wanted: Arrays) -> str:
    for name, want in wanted.items():
        have = got.get(name)
        if have is None or have.shape != want.shape:
            given = "missing" if have is None else "x".join(map(str, have.shape))
            return f"output {name} is {given}, that of the whole model {'x'.join(map(str, want.shape))}"
    return ""
