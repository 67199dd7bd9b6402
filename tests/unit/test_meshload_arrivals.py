"""Schedules: the rate that was asked for, the same for everybody, and all of it over any number of processes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshload.arrivals import bursts, from_times, parse_tenants, period_s, read_times, schedule
from meshload.errors import LoadError
from meshload.stages import RateCurve, Stage, duration_s, parse_stages

STAGES = st.lists(
    st.builds(Stage, st.floats(0.01, 50), st.floats(0, 1000), st.floats(0, 1000)), min_size=1, max_size=5
).filter(lambda stages: sum(stage.requests for stage in stages) > 1)


@settings(max_examples=30)
@given(STAGES, st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_times_are_where_the_rates_integral_reaches_what_is_asked(stages: list[Stage], shares: list[float]) -> None:
    curve = RateCurve(stages)
    asked = np.array(sorted(shares)) * curve.requests
    times = curve.times_s(asked)
    assert (times >= 0).all() and (times <= curve.length_s * (1 + 1e-9)).all()
    fine = np.linspace(0, curve.length_s, 2_001)
    rates = np.array([curve.rate_rps(min(t, curve.length_s * (1 - 1e-12))) for t in fine])
    reached = np.concatenate(([0.0], np.cumsum((rates[1:] + rates[:-1]) / 2 * np.diff(fine))))
    jumps = np.diff(fine)[0] * 1000 * len(stages)
    assert np.interp(times, fine, reached) == pytest.approx(asked, abs=jumps + 1e-6 * curve.requests)


def test_constant_arrivals_are_evenly_spaced_from_the_start() -> None:
    times = [a.at_ns for a in schedule(RateCurve([Stage(2, 500, 500)]), "constant", seed=1)]
    assert len(times) == 1000 and times[0] == 0
    assert {round((b - a) / 1000) for a, b in pairwise(times)} == {2000}


@pytest.mark.parametrize("kind", ["poisson", "bursty", "constant"])
@settings(max_examples=10)
@given(st.integers(1, 5), st.integers(0, 3))
def test_the_parts_of_all_processes_make_the_whole(kind: str, parts: int, seed: int) -> None:
    curve = RateCurve([Stage(1, 100, 300), Stage(1, 300, 0)])

    def times(part: int, of: int) -> list[tuple[int, str]]:
        mix = {"a": 3.0, "b": 1.0}
        found = schedule(curve, kind, seed=seed, tenants=mix, deadline_ns=7, every=(part, of))
        return [(a.at_ns, a.tenant) for a in found]

    assert sorted(x for part in range(parts) for x in times(part, parts)) == sorted(times(0, 1))
    assert times(0, 1) == sorted(times(0, 1), key=lambda x: x[0])


def test_poisson_arrivals_have_the_mean_and_the_spread_of_a_poisson_process() -> None:
    times = np.array([a.at_ns for a in schedule(RateCurve([Stage(100, 1000, 1000)]), "poisson", seed=3)]) / 1e9
    assert len(times) == pytest.approx(100_000, abs=5 * 100_000**0.5)
    counts = np.bincount(times.astype(int), minlength=100)
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.7)
    assert np.diff(times).std() / np.diff(times).mean() == pytest.approx(1, abs=0.02)


def test_bursts_keep_the_mean_rate_and_spread_more() -> None:
    curve = bursts(RateCurve([Stage(2000, 100, 100)]), np.random.default_rng(1))
    assert curve.requests == pytest.approx(200_000, rel=0.06)
    times = np.array([a.at_ns for a in schedule(RateCurve([Stage(300, 100, 100)]), "bursty", seed=1)]) / 1e9
    counts = np.bincount(times.astype(int), minlength=300)
    assert counts.var() / counts.mean() > 5


def test_tenants_come_in_their_shares() -> None:
    found = [
        a.tenant for a in schedule(RateCurve([Stage(1, 8000, 8000)]), "constant", seed=1, tenants={"a": 3, "b": 1})
    ]
    assert found.count("a") / len(found) == pytest.approx(0.75, abs=0.03)
    only = schedule(RateCurve([Stage(1, 5, 5)]), "constant", seed=1, tenants={"a": 2})
    assert [a.tenant for a in only] == ["a"] * 5


def test_recorded_times_repeat_and_can_be_stretched() -> None:
    times = np.array([0.0, 0.1, 0.3])
    assert period_s(times) == pytest.approx(0.45)
    plain = [a.at_ns / 1e9 for a in from_times(times, 0.95, mean_rps=None, seed=1)]
    assert plain == pytest.approx([0, 0.1, 0.3, 0.45, 0.55, 0.75, 0.9])
    faster = [a.at_ns / 1e9 for a in from_times(times, 0.89, mean_rps=2 * 3 / 0.45, seed=1)]
    assert faster[:4] == pytest.approx([0, 0.05, 0.15, 0.225]) and len(faster) == 12


@pytest.mark.parametrize("text", ["", "1\n", "1\n0.5\n", "a\nb\n", "2\n2\n", "nan\n1\n"])
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_a_file_without_rising_times_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "times").write_text(text)
    with pytest.raises(LoadError, match="--arrivals trace:"):
        read_times(tmp_path / "times")


def test_times_are_read_from_the_first_column_and_begin_at_0(tmp_path: Path) -> None:
    (tmp_path / "times").write_text("# s, what\n5.0,x\n5.5,y\n7,z\n")
    assert read_times(tmp_path / "times").tolist() == [0, 0.5, 2]


def test_stages_are_read_as_they_are_written() -> None:
    assert parse_stages("30s@100, 1m@500,ramp:60s@2000,ramp:1s@0") == (
        Stage(30, 100, 100),
        Stage(60, 500, 500),
        Stage(60, 500, 2000),
        Stage(1, 2000, 0),
    )
    assert parse_stages("ramp:10s@50") == (Stage(10, 0, 50),)


@pytest.mark.parametrize("text", ["", "30s", "30s@", "x@5", "0s@5", "5s@-1", "5s@0", "5s@1e9", "30s@100,,"])
def test_wrong_stages_are_refused_by_name(text: str) -> None:
    with pytest.raises(LoadError, match="--stages"):
        parse_stages(text)


@pytest.mark.parametrize(("text", "seconds"), [("150ms", 0.15), ("30s", 30), ("2m", 120), ("1.5h", 5400), ("7", 7)])
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text, what="-d") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["a:", "a:-1", ":3", "a:x", "a:0", ""])
def test_wrong_tenants_are_refused(text: str) -> None:
    if text == "a:":
        assert parse_tenants(text) == {"a": 1}
        return
    with pytest.raises(LoadError, match="--tenants"):
        parse_tenants(text)


def test_an_unknown_kind_of_arrivals_is_refused() -> None:
    with pytest.raises(LoadError, match="no such arrivals"):
        schedule(RateCurve([Stage(1, 1, 1)]), "random", seed=1)
