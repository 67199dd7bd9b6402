"""Owns the times of a plan's parts on this machine. Reads no pixels' meaning and judges no answer."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from splitmesh.codec.features import decode_features, encode_features
from splitmesh.codec.picture import decode_picture, encode_picture
from splitmesh.inference.planning.parity import Part, open_part
from splitmesh.inference.planning.stages import Step, each
from splitmesh.inference.planning.whole import Whole
from splitmesh.inference.profile import part_timing, take_turns
from splitmesh.plan.bundle.schema import PartTiming, RateRow
from splitmesh.plan.cuts.extract import Arrays
from splitmesh.plan.footage import Rgb

ROUNDS = 15
CUT_BUDGET_S = 2.0
BATCHES = (2, 4, 8)
BATCH_ROUNDS = 5
BATCH_BUDGET_S = 1.0
CODING_ROUNDS = 8

Located = tuple[str, dict[str, tuple[int, ...]], tuple[Path, Path]]
"""A cut's name, wire shapes and the paths of head and tail."""


def part_times(
    whole: Whole, cuts: Sequence[Located], picture: Rgb, step: Step, *, providers: Sequence[str]
) -> dict[str, PartTiming]:
    """Times of "full", "head <cut>" and "tail <cut>" on one picture, one cut loaded at a time.

    The whole model takes its turn in each cut's rounds. Its median there over its median in all rounds is the drift
    of the machine (heat, neighbours), which the cut's times are freed from.
    """
    inputs = whole.inputs(picture)
    run_full = partial(whole.session.run, inputs)
    full: list[float] = []
    measured: list[tuple[float, dict[str, list[float]]]] = []
    for name, shapes, paths in each(cuts, step):
        part = open_part(name, shapes, paths, threads=whole.session.threads, providers=providers)
        rounds = take_turns({"full": run_full, **_calls(part, whole, picture)}, runs=ROUNDS, budget_s=CUT_BUDGET_S)
        own = rounds.pop("full")
        full += own
        measured.append((statistics.median(own), rounds | _batched(part, inputs)))
    if not cuts:
        full = take_turns({"full": run_full}, runs=ROUNDS, budget_s=CUT_BUDGET_S)["full"]
    typical = statistics.median(full)
    times = {"full": part_timing(full)}
    for own_median, rounds in measured:
        times.update((name, part_timing(values, scale=typical / own_median)) for name, values in rounds.items())
    return times


def _calls(part: Part, whole: Whole, picture: Rgb) -> dict[str, Callable[[], object]]:
    inputs = whole.inputs(picture)
    tensors = part.head.run(inputs)
    return {
        f"head {part.name}": partial(part.head.run, inputs),
        f"tail {part.name}": partial(part.tail.run, tensors),
    }


def _batched(part: Part, inputs: Arrays) -> dict[str, list[float]]:
    """Tails on 2, 4 and 8 pictures at a time, where they take that."""
    if any(shape[0] is not None for shape, _ in part.tail.inputs.values()):
        return {}
    tensors = part.head.run(inputs)
    calls = {
        f"tail {part.name} b{size}": partial(
            part.tail.run, {name: np.repeat(value, size, axis=0) for name, value in tensors.items()}
        )
        for size in BATCHES
    }
    return take_turns(calls, runs=BATCH_ROUNDS, warmup=1, budget_s=BATCH_BUDGET_S)


def coding_times(
    whole: Whole,
    cuts: Sequence[Located],
    rows: Sequence[RateRow],
    picture: Rgb,
    step: Step,
    *,
    providers: Sequence[str],
) -> dict[str, PartTiming]:
    """Times of "encode <point>" and "decode <point>" for all `rows` on one picture."""
    located = {cut[0]: cut for cut in cuts}
    times: dict[str, PartTiming] = {}
    for cut in each(sorted({row.cut for row in rows if row.codec}), step):
        mine = [row for row in rows if row.cut == cut and row.codec]
        if not cut:
            for row in mine:
                times |= _coding(row, partial(encode_picture, picture, quality=row.level), _picture_decoder(picture))
            continue
        part = open_part(*located[cut], threads=whole.session.threads, providers=providers)
        tensors = part.head.run(whole.inputs(picture))
        decode = partial(decode_features, expect=part.shapes)
        for row in mine:
            times |= _coding(row, partial(encode_features, tensors, codec=row.codec, level=row.level), decode)
    return times


def _picture_decoder(picture: Rgb) -> Callable[[bytes], object]:
    return partial(decode_picture, expect=(picture.shape[0], picture.shape[1]))


def _coding(row: RateRow, encode: Callable[[], bytes], decode: Callable[[bytes], object]) -> dict[str, PartTiming]:
    rounds = take_turns({"encode": encode, "decode": partial(decode, encode())}, runs=CODING_ROUNDS)
    return {f"{name} {row.point}": part_timing(values) for name, values in rounds.items()}
