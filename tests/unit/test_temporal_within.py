"""Payloads no larger than the link has room for: the search for their level, and streams that fade in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporal_clips import LEVEL, clip, frame, table

from splitmesh.codec.head import parse_head
from splitmesh.codec.temporal.decoder import TemporalDecoder
from splitmesh.codec.temporal.encoder import FINER, TemporalEncoder
from splitmesh.codec.temporal.within import within

STILL = {"cut": clip(1, noise=0.0)}


def tried(sizes: dict[int, int], level: int, limit_bytes: float) -> tuple[int, list[int]]:
    """(the level that is taken, those that were tried), where `sizes` has the bytes of each level."""
    asked: list[int] = []

    def code(at: int) -> tuple[str, int]:
        asked.append(at)
        return f"at {at}", sizes[at]

    made, best = within(code, level, limit_bytes)
    assert made == f"at {best}"
    return best, asked


@pytest.mark.parametrize("limit_bytes", [1000.0, 1e9, float("inf")])
def test_what_is_small_enough_is_coded_once(limit_bytes: float) -> None:
    assert tried({at: 10 * at for at in range(256)}, 100, limit_bytes) == (100, [100])


@pytest.mark.parametrize("per_half", [2.0, 5.0, 8.0, 14.0])
@pytest.mark.parametrize("share", [0.8, 0.5, 0.2, 0.05])
def test_what_is_too_large_becomes_coarser_by_hardly_more_than_needed(per_half: float, share: float) -> None:
    sizes = {at: round(10_000 * 2 ** ((at - 100) / per_half)) for at in range(101)}
    limit = share * sizes[100]
    best, asked = tried(sizes, 100, limit)
    assert sizes[best] <= limit and len(asked) <= 5
    needed = max(at for at in sizes if sizes[at] <= limit)
    assert needed - best <= max(4, 0.5 * per_half), (needed, best, asked)


def test_a_payload_that_comes_down_to_nothing_at_once_is_met_from_both_sides() -> None:
    """Residuals smaller than half a step are not sent at all: a few levels too coarse, and nothing is left."""
    sizes = {at: 20 if at < 68 else 700 + 100 * (at - 68) for at in range(90)}
    best, asked = tried(sizes, 84, 1200.0)
    assert sizes[best] <= 1200 and best >= 68, asked


@given(
    sizes=st.lists(st.integers(0, 10**6), min_size=1, max_size=256),
    limit_bytes=st.floats(0.0, 2e6, allow_nan=False),
)
def test_whatever_the_sizes_are_few_levels_are_tried_and_the_best_of_them_taken(
    sizes: list[int], limit_bytes: float
) -> None:
    level = len(sizes) - 1
    best, asked = tried(dict(enumerate(sizes)), level, limit_bytes)
    assert len(asked) == len(set(asked)) <= 5 and set(asked) <= set(range(level + 1))
    small = [at for at in asked if sizes[at] <= limit_bytes]
    assert best == max(small) if small else sizes[best] == min(sizes[at] for at in asked)


def test_a_keyframe_that_is_too_large_is_coarser_and_says_so() -> None:
    whole = TemporalEncoder(table()).encode(frame(0), level=LEVEL)
    half = TemporalEncoder(table()).encode(frame(0), level=LEVEL, limit_bytes=len(whole.payload) / 2)
    assert whole.level == LEVEL and half.key and half.level < LEVEL
    assert len(half.payload) <= len(whole.payload) / 2
    assert parse_head(half.payload)[0].level == half.level + FINER
    roomy = TemporalEncoder(table()).encode(frame(0), level=LEVEL, limit_bytes=len(whole.payload))
    assert roomy.payload == whole.payload


def test_a_stream_fades_in_where_there_is_no_room_for_a_keyframe() -> None:
    """No payload is larger than the room, and what stands still is in the end as near as if there had been room."""
    whole = TemporalEncoder(table()).encode(STILL, level=LEVEL)
    limit = len(whole.payload) * 0.45
    encoder, decoder = TemporalEncoder(table()), TemporalDecoder(table())
    off, levels = [], []
    for _ in range(12):
        coded = encoder.encode(STILL, level=LEVEL, limit_bytes=limit)
        assert len(coded.payload) <= limit
        decoded = decoder.decode(coded.payload)["cut"]
        expected = encoder.reconstruction(coded.number)
        assert expected is not None and np.array_equal(decoded, expected["cut"])
        encoder.acknowledged(coded.number)
        off.append(float(np.abs(decoded - STILL["cut"]).mean()))
        levels.append(coded.level)
    reference = TemporalEncoder(table())
    first = reference.encode(STILL, level=LEVEL - FINER)  # its keyframe is at LEVEL
    target = reference.reconstruction(first.number)
    assert target is not None
    assert levels[0] < LEVEL and levels[-1] == LEVEL
    assert off[0] > 1.5 * off[-1], "it began coarse"
    assert off[-1] < 1.5 * np.abs(target["cut"] - STILL["cut"]).mean()


def test_a_burst_is_spread_over_frames() -> None:
    """A new scene in the middle of a stream, with room for a third of what it takes."""
    encoder, free = TemporalEncoder(table()), TemporalEncoder(table())
    for each in (encoder, free):
        each.acknowledged(each.encode(frame(0), level=LEVEL).number)
    burst = free.encode(frame(0, seed=7), level=LEVEL)
    limit = len(burst.payload) / 3
    coded = encoder.encode(frame(0, seed=7), level=LEVEL, limit_bytes=limit)
    assert coded.level < LEVEL and len(coded.payload) <= limit


def test_where_nothing_is_small_enough_the_smallest_is_sent() -> None:
    coded = TemporalEncoder(table()).encode(frame(0), level=LEVEL, limit_bytes=1.0)
    assert coded.level == 0 and coded.key
