"""Owns the times of coding and decoding at a plan's levels on this machine. Judges no answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from splitmesh.codec.coders import FeatureCoder, PictureCoder, PictureKind
from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.table_coders import feature_coder
from splitmesh.inference.planning.parity import open_part
from splitmesh.inference.planning.stages import Step, each
from splitmesh.inference.planning.times import Located
from splitmesh.inference.planning.whole import Whole
from splitmesh.inference.profile import part_timing, timed
from splitmesh.plan.bundle.schema import PartTiming, RateRow
from splitmesh.plan.footage import Rgb

WARMUP, ROUNDS = 2, 8
MOVES_PX = (0, 2, 4, 2)
"""How far the picture is moved in each round: codecs that build on the last frame are to find some motion."""


def coding_times(
    whole: Whole,
    cuts: Sequence[Located],
    rows: Sequence[RateRow],
    picture: Rgb,
    step: Step,
    *,
    providers: Sequence[str],
    tables: Mapping[str, CompactTable],
    pictures: Sequence[PictureKind],
) -> dict[str, PartTiming]:
    """Times of "encode <point>" and "decode <point>" for all `rows` of the model itself, on one picture that moves.

    What a variant of a head makes is of the same shape, and takes the same time to code. Rows of the picture that are
    coded by none of `pictures` have no times. tables: by cut. Raises CodecError if the table of a row is missing.
    """
    located = {cut[0]: cut for cut in cuts}
    moved = [np.roll(picture, shift, axis=1) for shift in MOVES_PX]
    plain = [row for row in rows if row.codec and not row.variant]
    times: dict[str, PartTiming] = {}
    for cut in each(sorted({row.cut for row in plain}), step):
        mine = [row for row in plain if row.cut == cut]
        if not cut:
            for row, picture_coder in _picture_coders(mine, pictures, (picture.shape[0], picture.shape[1])):
                times |= _timed(row, picture_coder, moved)
            continue
        part = open_part(*located[cut], threads=whole.session.threads, providers=providers)
        tensors = [part.head.run(whole.inputs(each_moved)) for each_moved in moved]
        for row in mine:
            coder = feature_coder(row.codec, row.level, shapes=part.shapes, table=tables.get(cut))
            times |= _timed(row, coder, tensors)
    return times


def _picture_coders(
    rows: Sequence[RateRow], kinds: Sequence[PictureKind], size: tuple[int, int]
) -> Iterator[tuple[RateRow, PictureCoder]]:
    by_codec = {kind.codec: kind for kind in kinds}
    return ((row, by_codec[row.codec].make(row.level, size)) for row in rows if row.codec in by_codec)


def _timed(row: RateRow, coder: FeatureCoder | PictureCoder, inputs: Sequence[Any]) -> dict[str, PartTiming]:
    encode_ms, decode_ms = [], []
    coder.reset()
    for turn in range(WARMUP + ROUNDS):
        payload, encoding_ms = timed(partial(coder.encode, inputs[turn % len(inputs)]))
        _, decoding_ms = timed(partial(coder.decode, payload))
        encode_ms.append(encoding_ms)
        decode_ms.append(decoding_ms)
    return {
        f"encode {row.point}": part_timing(encode_ms[WARMUP:]),
        f"decode {row.point}": part_timing(decode_ms[WARMUP:]),
    }
