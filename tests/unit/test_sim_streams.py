"""A simulated stream: what payloads build on, what they weigh, and when it begins anew."""

from __future__ import annotations

import sys
from dataclasses import replace
from math import inf, sqrt
from pathlib import Path

import pytest

from splitmesh.policy.payloads import Reference
from splitmesh.sim.streams import CALM_FRAMES, MAX_UNACKNOWLEDGED, Coded, Stream

sys.path.append(str(Path(__file__).parent))
from sim_values import H264, TEMPORAL


class Told:
    """A stream, and what it has told the policy."""

    def __init__(self, *, chained: bool = False) -> None:
        self.references: list[Reference] = []
        self.stream = Stream(0, chained=chained, tell=self.references.append)

    def sent(self, room_bytes: float = inf, scale: float = 1.0) -> Coded:
        coded = self.stream.code(TEMPORAL, scale, room_bytes)
        assert self.stream.send(coded)
        return coded

    def exchanged(self, room_bytes: float = inf) -> Coded:
        coded = self.sent(room_bytes)
        self.stream.answered(coded, 0, 0)
        return coded


def test_it_begins_with_a_key_behind_which_nothing_goes() -> None:
    told = Told()
    key = told.sent()
    assert (key.base, key.size_bytes) == (None, 6000)
    before = (told.stream.awaits_key, told.stream.home)
    told.stream.answered(key, 3, 0)
    assert [before, (told.stream.awaits_key, told.stream.home)] == [(True, -1), (False, 3)]
    assert told.references == [Reference.COMING, Reference.ALIVE]
    later = told.sent()
    assert (later.base, later.size_bytes) == (key.number, 600)


def test_what_builds_on_an_older_frame_weighs_more_but_never_more_than_a_key() -> None:
    told = Told()
    told.exchanged()
    sizes = [told.sent().size_bytes for _ in range(3)]
    assert sizes == [600, round(600 * 2**0.585), round(600 * 3**0.585)]
    assert 1.4 < sizes[1] / sizes[0] < 1.6  # a third fewer bytes the other way round
    assert told.stream.code(TEMPORAL, 1e-9, inf).size_bytes == 1
    far = Told()
    far.exchanged()
    assert max(far.sent().size_bytes for _ in range(MAX_UNACKNOWLEDGED)) <= 6000


def test_in_a_calm_stretch_each_builds_on_the_one_before_and_a_loss_ends_it() -> None:
    told = Told()
    for _ in range(CALM_FRAMES):
        told.exchanged()
    first, second = told.sent(), told.sent()
    assert second.base == first.number and second.trusted
    told.stream.lost(first, broken=False, refused=True)
    assert told.references[-1] is Reference.NONE
    assert told.sent().base is None


def test_before_that_a_loss_costs_nothing_but_itself() -> None:
    told = Told()
    key = told.exchanged()
    lost = told.sent()
    told.stream.lost(lost, broken=False, refused=True)
    assert told.sent().base == key.number


def test_three_refusals_in_a_row_look_for_another_worker() -> None:
    told = Told()
    told.exchanged()
    for _ in range(3):
        told.stream.lost(told.sent(), broken=False, refused=True)
    assert told.stream.home == -1 and told.sent().base is None


def test_a_frame_that_was_coded_before_a_reset_does_not_go() -> None:
    told = Told()
    told.exchanged()
    coded = told.stream.code(TEMPORAL, 1.0, inf)
    told.stream.reset()
    assert not told.stream.send(coded)


def test_an_overdue_key_may_be_sent_again_and_still_counts() -> None:
    told = Told()
    key = told.sent()
    told.stream.overdue(key)
    assert told.references[-1] is Reference.NONE and not told.stream.awaits_key
    assert told.sent().base is None
    told.stream.answered(key, 1, 0)
    assert told.stream.home == 1 and told.sent().base == key.number


def test_a_stream_fades_in_where_there_is_no_room() -> None:
    told = Told()
    key = told.exchanged(room_bytes=3000)
    assert (key.size_bytes, key.level) == (3000, TEMPORAL.level - 8)
    assert key.kept == pytest.approx(sqrt(0.5))
    second = told.exchanged(room_bytes=2000)  # 600 of its own and 1400 of the 3000 that were left out
    assert second.size_bytes == 2000 and second.kept == pytest.approx(sqrt(4400 / 6000))
    third = told.exchanged(room_bytes=10_000)
    assert (third.size_bytes, third.level, third.kept) == (600 + 1600, TEMPORAL.level, 1.0)
    assert told.exchanged().size_bytes == 600


def test_a_coarser_level_needs_less_and_a_finer_one_brings_what_it_has_more() -> None:
    told = Told()
    told.exchanged()
    coarser = replace(TEMPORAL, level=72, payload_bytes=300.0, key_bytes=3000.0)
    coded = told.stream.code(coarser, 1.0, inf)
    assert (coded.size_bytes, coded.kept) == (300, 1.0)  # more is there than it asks for
    told.stream.reset()
    key = told.stream.code(coarser, 1.0, inf)
    assert told.stream.send(key)
    told.stream.answered(key, 0, 0)
    finer = told.stream.code(TEMPORAL, 1.0, inf)
    assert (finer.size_bytes, finer.kept) == (3000 + 600, 1.0)


def test_changes_and_keys_grow_apart() -> None:
    told = Told()
    key = told.stream.code(TEMPORAL, 5.0, inf, key_scale=1.5)
    assert key.size_bytes == 9000 and told.stream.send(key)
    told.stream.answered(key, 0, 0)
    assert told.stream.code(TEMPORAL, 0.5, inf, key_scale=1.5).size_bytes == 300


def test_a_picture_stream_is_chained_and_another_level_is_a_key() -> None:
    stream = Stream(0, chained=True, tell=lambda _: None)
    key = stream.code(H264, 1.0, 10.0)  # it can't be made coarser
    assert key.size_bytes == 5000 and stream.send(key)
    stream.answered(key, 0, 0)
    one, two = stream.code(H264, 1.0, inf), stream.code(H264, 1.0, inf)
    assert (one.base, two.base, two.size_bytes) == (key.number, one.number, 900)

    assert stream.code(replace(H264, level=32), 1.0, inf).base is None
    assert stream.send(one)
    stream.lost(one, broken=False, refused=True)
    assert stream.code(H264, 1.0, inf).base is None
