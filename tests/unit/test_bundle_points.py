"""Operating points of a plan's rows and a device's times."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_folders import facts, row

from splitmesh.plan.bundle.points import MAX_PAYLOAD_BYTES, operating_point, operating_points
from splitmesh.plan.bundle.schema import PartTiming, PlanFile, ProfileFile
from splitmesh.plan.pareto import pareto
from splitmesh.policy.point import OperatingPoint, Place

PARTS = {"full": 20.0, "head early": 5.0, "tail early": 15.0, "head late": 12.0, "tail late": 8.0}


def points(rows: list[dict[str, Any]], *, slowdown: float = 1.0, limit: int = 16, **parts: float) -> tuple[Any, ...]:
    """parts: times besides `PARTS`, "_" for a space; every row's coding takes 0.5 and 0.3 ms unless it is there."""
    plan = PlanFile.model_validate(facts(rows=rows, files={}))
    profile = profile_of(plan, {**PARTS, **{name.replace("_", " "): ms for name, ms in parts.items()}}, slowdown)
    return operating_points(plan, profile, limit=limit)


def profile_of(plan: PlanFile, parts: dict[str, float], slowdown: float) -> ProfileFile:
    coding = {f"{step} {r.point}": ms for r in plan.rows for step, ms in (("encode", 0.5), ("decode", 0.3))}
    times = coding | parts
    return ProfileFile(
        plan_sha256="0" * 64,
        device_class="test",
        device="test",
        provider="cpu",
        threads=1,
        tools={},
        edge_slowdown=slowdown,
        times={name: PartTiming(p50_ms=ms, p95_ms=9 * ms, runs=9) for name, ms in times.items() if ms >= 0},
    )


def test_points_carry_what_was_measured_under_documented_names() -> None:
    found = {
        p.name: p
        for p in points(
            [row("early", "u8zstd", 5, 20e3, 0.99), row("late", "u8lz4", 8, 15e3, 0.98), row("", "jpeg", 85, 24e3)]
        )
    }
    assert list(found) == ["frame/jpeg-85", "local", "split/early/u8zstd-5", "split/late/u8lz4-8", "track"]
    assert found["split/early/u8zstd-5"] == OperatingPoint(
        "split/early/u8zstd-5", Place.SPLIT, 0.99, "early", "u8zstd", 5, 5.0, 0.5, 20e3, 0.3, 15.0, 15.0
    )
    assert found["frame/jpeg-85"] == OperatingPoint(
        "frame/jpeg-85", Place.FRAME, 0.97, "", "jpeg", 85, 0.0, 0.5, 24e3, 0.3, 20.0, 0.0
    )
    assert found["local"] == OperatingPoint("local", Place.LOCAL, 1.0, edge_ms=20.0)
    assert found["track"] == OperatingPoint("track", Place.TRACK, 1.0)


def test_a_slower_edge_is_slower_in_everything_that_runs_on_it_and_nothing_else() -> None:
    rows = [row("early", "u8zstd", 5, 20e3), row("", "jpeg", 85, 24e3), row("", "", 0, 0.0, 0.9, "small")]
    plain, slow = ({p.name: p for p in points(rows, slowdown=factor, full_small=4.0)} for factor in (1.0, 3.0))
    for name, point in plain.items():
        other = slow[name]
        for part in ("edge_ms", "encode_ms", "resume_ms"):
            assert getattr(other, part) == pytest.approx(3 * getattr(point, part)), (name, part)
        assert (other.cloud_ms, other.decode_ms) == (point.cloud_ms, point.decode_ms)
    assert plain["local/small"].edge_ms == 4.0


@pytest.mark.parametrize(
    ("ms", "fidelity", "offered"),
    [(17.0, 0.95, True), (18.5, 0.99, False), (25.0, 1.0, False), (2.0, 0.8, True), (2.0, 0.79, False)],
)
def test_a_local_variant_must_be_faster_and_faithful(ms: float, fidelity: float, offered: bool) -> None:
    found = {p.name: p for p in points([row("", "", 0, 0.0, fidelity, "int8")], full_int8=ms)}
    assert ("local/int8" in found) is offered
    if offered:
        expected = OperatingPoint("local/int8", Place.LOCAL, fidelity, edge_ms=ms, variant="int8")
        assert found["local/int8"] == expected


@pytest.mark.parametrize(("ms", "offered"), [(3.0, True), (4.8, False), (6.0, False)])
def test_a_quantised_head_must_be_faster_than_its_own_original(ms: float, offered: bool) -> None:
    rows = [row("early", "u8zstd", 5, 20e3, 0.99), row("early", "u8zstd", 5, 20e3, 0.97, "int8")]
    name = "split/early+int8/u8zstd-5"
    found = {p.name: p for p in points(rows, **{"head early int8": ms, f"encode {name}": -1.0})}
    assert (name in found) is offered
    if offered:
        point = found[name]
        assert (point.place, point.cut, point.variant) == (Place.SPLIT, "early", "int8")
        assert (point.edge_ms, point.cloud_ms, point.resume_ms, point.encode_ms) == (3.0, 15.0, 15.0, 0.5)


def test_rows_without_times_give_no_point() -> None:
    rows = [
        row("unknown", "u8zstd", 5, 20e3),
        row("early", "u8zstd", 8, 30e3, 0.99, "int8"),
        row("", "", 0, 0.0, 1.0, "small"),
        row("late", "u8zstd", 8, 30e3),
    ]
    names = [p.name for p in points(rows, **{"decode split/late/u8zstd-8": -1.0})]
    assert names == ["local", "track"]


def test_dominated_points_go_and_a_late_cut_stays_for_its_short_tail() -> None:
    names = {
        p.name
        for p in points(
            [
                row("early", "u8zstd", 8, 40e3, 0.99),  # beaten by the next: larger, and no better
                row("early", "u8zstd", 6, 30e3, 0.99),
                row("late", "u8zstd", 6, 35e3, 0.99),  # later and larger than early, but its tail is short
            ]
        )
    }
    assert names == {"track", "local", "split/early/u8zstd-6", "split/late/u8zstd-6"}


def test_payloads_that_no_message_can_hold_are_left_out() -> None:
    mean = MAX_PAYLOAD_BYTES / 1.05  # one frame in twenty is a tenth larger
    names = [p.name for p in points([row("early", "u8lz4", 8, mean, 1.0), row("early", "u8lz4", 3, 300e3, 0.9)])]
    assert names == ["local", "split/early/u8lz4-3", "track"]


def test_timing_noise_below_ten_percent_decides_nothing() -> None:
    kept = pareto(
        [
            OperatingPoint("a", Place.SPLIT, 0.9, "c", "u8lz4", 8, 10.0, 0.30, 900.0, 0.1, 5.0, 5.0),
            OperatingPoint("b", Place.SPLIT, 0.9, "c", "u8zstd", 8, 10.0, 0.31, 700.0, 0.1, 5.0, 5.0),
        ]
    )
    assert [p.name for p in kept] == ["b"]


remote_rows = st.lists(
    st.builds(
        row,
        st.sampled_from(["early", "late", ""]),
        st.sampled_from(["u8lz4", "u8zstd"]),
        st.integers(1, 100),
        st.floats(100, 1e5),
        st.floats(0, 1),
    ),
    max_size=60,
    unique_by=lambda r: (r["cut"], r["codec"], r["level"]),
)


@given(remote_rows)
def test_at_most_sixteen_plus_two_and_every_group_keeps_its_extremes(rows: list[dict[str, Any]]) -> None:
    some = points(rows)
    names = [p.name for p in some]
    assert names == sorted(set(names))
    assert {"track", "local"} <= set(names)
    assert len(some) <= 18
    everything = points(rows, limit=1000)
    assert set(some) <= set(everything)
    for cut in ("early", "late", ""):
        mine = [p for p in everything if p.remote and p.cut == cut]
        if mine:
            assert max(p.fidelity for p in mine) in [p.fidelity for p in some if p.cut == cut]
            assert min(p.payload_bytes for p in mine) in [p.payload_bytes for p in some if p.cut == cut]


@given(remote_rows)
def test_order_of_rows_does_not_matter(rows: list[dict[str, Any]]) -> None:
    assert points(rows) == points(rows[::-1])


def test_points_with_a_memory_stand_beside_those_without_and_know_what_a_key_costs() -> None:
    levels = (70, 80, 90)
    rows = [row("early", "temporal", level, 90.0 * level, 0.9 + level / 1000) | {"key_bytes": 400.0 * level}
            for level in levels]  # fmt: skip
    rows += [row("early", "compact", level, 400.0 * level, 0.9 + level / 1000) for level in levels]
    rows += [row("early", "temporal", 60, 10.0, 0.79) | {"key_bytes": 30.0}, row("", "roijpeg", 60, 10.0, 0.99)]
    found = {point.name: point for point in points(rows) if point.remote}
    assert found.keys() == {f"split/early/{codec}-{level}" for codec in ("temporal", "compact") for level in levels}
    for level in levels:
        assert found[f"split/early/temporal-{level}"].key_bytes == 400.0 * level
        assert found[f"split/early/compact-{level}"].key_bytes == 0.0


def test_levels_of_a_stream_are_not_bettered_by_another_stream() -> None:
    """To change to that one takes a key, which a thin link has no room for: what is open must do."""
    fine = {"key_bytes": 3000.0}
    rows = [row("early", "temporal", 80, 500.0, 0.9) | fine, row("early", "temporal", 92, 2000.0, 0.98) | fine]
    rows += [row("late", "temporal", 80, 100.0, 0.99) | fine, row("late", "compact", 80, 3000.0, 0.99)]
    slow_late = {"head_late": 5.0, "tail_late": 15.0}  # as quick as the early one, with a tenth of its bytes
    found = {p.name for p in points(rows, limit=64, **slow_late) if p.remote}
    assert {"split/early/temporal-80", "split/early/temporal-92", "split/late/temporal-80"} <= found
    rows.append(row("late", "u8zstd", 8, 90.0, 0.995))
    alone = {p.name for p in points(rows, limit=64, **slow_late) if p.remote}
    assert alone == {"split/late/u8zstd-8"}, "what needs no key betters them all"


def test_a_stream_between_the_levels_of_another_keeps_some_of_its_own() -> None:
    """Its points differ little from those of the other in bytes and fidelity, and yet can't stand in for them."""
    rows = [
        row(cut, "temporal", level, 100.0 * 2 ** ((level - 70) / 6), 0.8 + (level - 70) / 200) | {"key_bytes": 3000.0}
        for cut, levels in (("early", range(70, 104, 4)), ("late", range(78, 96, 3)))
        for level in levels
    ]
    found = [p for p in points(rows, limit=12, head_late=5.0, tail_late=15.0) if p.remote]
    assert len(found) == 12 and sum(p.cut == "late" for p in found) >= 5


def test_a_codec_with_a_continuous_knob_has_points_between_its_measured_levels() -> None:
    rows = [
        row("early", "temporal", 80, 500.0, 0.9) | {"key_bytes": 2000.0},
        row("early", "temporal", 92, 2000.0, 0.98) | {"key_bytes": 5000.0},
        row("early", "u8zstd", 4, 9000.0, 0.95),
        row("early", "u8zstd", 8, 40000.0, 0.99),
    ]
    times = {"encode_split/early/temporal-80": 1.0, "encode_split/early/temporal-92": 4.0}
    found = [p for p in points(rows, limit=64, **times) if p.place is Place.SPLIT]
    assert [p.level for p in found if p.codec == "u8zstd"] == [4, 8]
    moving = [p for p in found if p.codec == "temporal"]
    assert [p.level for p in moving] == [80, 82, 84, 86, 88, 90, 92]
    middle = moving[3]
    assert middle.name == "split/early/temporal-86"
    assert middle.payload_bytes == pytest.approx(1000, rel=0.01) and middle.key_bytes == pytest.approx(3162, rel=0.01)
    assert middle.fidelity == pytest.approx(0.94) and middle.encode_ms == pytest.approx(2.5)
    assert (middle.edge_ms, middle.cloud_ms, middle.resume_ms) == (5.0, 15.0, 15.0)
    assert all(fine.payload_bytes <= 1.31 * coarse.payload_bytes for coarse, fine in pairwise(moving))


def test_a_codec_measured_at_one_level_has_that_one() -> None:
    found = points([row("early", "temporal", 80, 500.0, 0.9) | {"key_bytes": 2000.0}])
    assert [p.name for p in found] == ["local", "split/early/temporal-80", "track"]


def test_any_level_between_measured_ones_can_be_asked_for_by_name() -> None:
    rows = [
        row("", "h264", 20, 2000.0, 0.97) | {"key_bytes": 9000.0},
        row("", "h264", 32, 400.0, 0.88) | {"key_bytes": 3000.0},
        row("early", "u8zstd", 4, 9000.0, 0.95),
        row("early", "u8zstd", 8, 40000.0, 0.99),
    ]
    plan = PlanFile.model_validate(facts(rows=rows, files={}))
    profile = profile_of(plan, PARTS, 1.0)
    asked = operating_point(plan, profile, "frame/h264-27")
    assert (
        asked is not None and asked.level == 27 and 400 < asked.payload_bytes < 2000 and 0.88 < asked.fidelity < 0.97
    )
    assert operating_point(plan, profile, "split/early/u8zstd-8") is not None
    for name in ("split/early/u8zstd-6", "frame/h264-33", "frame/h264-19", "local", "nonsense", ""):
        assert operating_point(plan, profile, name) is None


def test_held_to_the_beginning_of_names_more_levels_fit() -> None:
    rows = [row("early", "u8zstd", level, 1000.0 * level, 0.8 + level / 50) for level in (3, 4, 5, 6, 8)]
    rows += [row("", "jpeg", level, 100.0 * level, 0.5 + level / 200) for level in (30, 50, 70, 85, 95)]
    plan = PlanFile.model_validate(facts(rows=rows, files={}))
    profile = profile_of(plan, PARTS, 1.0)
    offered = operating_points(plan, profile, limit=4)
    held = operating_points(plan, profile, limit=4, beginning="frame/")
    assert sum(p.remote for p in offered) == sum(p.remote for p in held) == 4
    assert {p.place for p in offered if p.remote} == {Place.SPLIT, Place.FRAME}
    assert {p.place for p in held if p.remote} == {Place.FRAME}
    assert {"local", "track"} <= {p.name for p in held}
