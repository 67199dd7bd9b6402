"""Holding the lab against the simulator: what a simulation is given, what counts as agreement, what is told of it."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench.simlab import PAIRS, lab_settings, wanted
from bench.simlab_beyond import beyond_link_ms, quantiles
from bench.simlab_given import given, handover_ms, losses, prepared_ms, stack_ms, trace_start_s
from bench.simlab_sides import Side, draw, lab_side, middle, sim_side, table, table_rows, verdict
from bench.simlab_video import Video, kappa_of, motions_of
from lab_run import one_box
from sim_values import JPEG, PLAN, POINTS, U8, steady
from simlab_values import FPS, record

from splitmesh.errors import SettingsError
from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.lab.commands import command_line
from splitmesh.policy.payloads import MESSAGE_BYTES
from splitmesh.settings.units import Outage
from splitmesh.sim.result import RunResult
from splitmesh.sim.run import simulate
from splitmesh.sim.scenario import Scenario

BY_NAME = {point.name: point for point in POINTS}
SCENARIO = Scenario(duration_s=20.0, fps=FPS, edge_slowdown=5.0, prepare_ms=6.0)
TRACE = steady(4e6)


def still(count: int) -> Video:
    """A video in which nothing moves and the model sees the same in every picture."""
    grey = np.full((36, 64), 128, np.uint8)
    return Video("ssd", dict.fromkeys(range(count), grey), dict.fromkeys(range(count), one_box()))


def as_lab(run: RunResult) -> tuple[list[FrameRecord], dict[str, Any]]:
    """What a lab would have left of that run, its edge slowed four times on a machine 1.25 times as slow."""
    records = []
    for seq, each in enumerate(run.frames):
        took = {"local": each.latency_ms - SCENARIO.prepare_ms} if each.outcome is Outcome.LOCAL else {}
        records.append(record(seq, each.outcome, each.point, each.latency_ms, times_ms=took))
    timely = [each.fidelity for each in run.frames if each.hit]
    summary = {
        "fidelity": sum(timely) / len(timely), "fidelity_by_outcome": {}, "deadline_ms": 150.0, "edge_slowdown": 4.0,
        "outages": [], "worker_kills": [],
    }  # fmt: skip
    return records, summary


@pytest.fixture(scope="module")
def run() -> RunResult:
    return simulate(PLAN, "adaptive", TRACE, SCENARIO, seed=3)


# -- what is given --------------------------------------------------------------------------------------------------


ALONE = [
    record(0, Outcome.TRACKED, "track", 7.0, times_ms={"preprocess": 1.0, "decide": 2.0}),
    record(1, Outcome.LOCAL, "local", 105.0, times_ms={"preprocess": 1.0, "local": 90.0, "device_queue": 4.0}),
    record(2, Outcome.TRACKED, "track", 6.0, times_ms={"decide": 0.5}),
    record(3, Outcome.TRACKED, "local", 145.0, times_ms={"preprocess": 1.0}),
    record(4, Outcome.SPLIT, U8.name, 100.0, times_ms={"preprocess": 1.0, "head": 50.0, "network": 30.0}),
    record(5, Outcome.RESUMED, U8.name, 145.0, times_ms={"head": 1.0}),
    record(6, Outcome.TRACKED, "track", 600.0),
    record(7, Outcome.SHED, "", None),
]


def test_time_before_the_decision_is_all_that_tracked_frames_take() -> None:
    found = prepared_ms(ALONE, most_ms=150.0)
    assert (found[0], found[len(found) // 2], found[-1]) == (6.0, 7.0, 150.0) and list(found) == sorted(found)
    assert set(prepared_ms([ALONE[1], *ALONE[3:6]], most_ms=150.0)) == {11.0}, "else what parts leave of local ones"
    assert set(prepared_ms(ALONE[3:6], most_ms=150.0)) == {20.0}, "or of others"
    assert prepared_ms([ALONE[3], *ALONE[5:6]], most_ms=150.0) == ()


def test_a_handover_is_what_parts_and_preparation_leave() -> None:
    assert handover_ms(ALONE) == pytest.approx({"local": 11.0 - 7.0, "split": 20.0 - 7.0})
    assert handover_ms(ALONE[3:6]) == {}


def test_half_of_what_lies_beyond_the_link_is_passed_each_way() -> None:
    assert stack_ms([4.0, 6.0, 90.0]) == 3.0 and stack_ms([-2.0]) == 0.0
    assert stack_ms([]) == Scenario().stack_ms


def test_the_trace_begins_where_the_first_outage_says() -> None:
    trace = steady(4e6).with_outages([Outage(30.0, 2.0), Outage(10.0, 2.0)])
    later = {"outages": [{"start_s": 9.7, "length_s": 2.0}, {"start_s": 29.7, "length_s": 2.0}]}
    assert trace_start_s(trace, later) == pytest.approx(0.3)
    assert trace_start_s(trace, {"outages": []}) == 0.0 == trace_start_s(steady(4e6), later)


def test_a_killed_worker_is_gone_until_one_answers_again() -> None:
    worked = [record(seq, Outcome.SPLIT, U8.name, 90.0, worker="w") for seq in (0, 24, 100, 101)]
    lost = record(60, Outcome.TRACKED, "track", 5.0)
    (loss,) = losses([*worked[:2], lost, *worked[2:]], {"worker_kills": [1.0]})
    assert loss.start_s == 1.0 and loss.length_s == pytest.approx(3.0)
    (for_good,) = losses([*worked[:2], lost], {"worker_kills": [1.0]})
    assert for_good.start_s + for_good.length_s > lost.captured_ns / 1e9 + 30


def test_motion_is_that_of_the_videos_first_pass() -> None:
    lumas = {index: np.full((36, 64), grey, np.uint8) for index, grey in enumerate((0, 51, 255, 204))}
    seen = [record(seq, Outcome.TRACKED, "track", 5.0, source_index=seq % 4) for seq in range(10)]
    found = motions_of(seen, Video("ssd", lumas, {}))
    assert found == pytest.approx((0.8, 0.2, 0.8, 0.2)), "the first against the last"
    assert motions_of(seen, Video("ssd", {}, {})) == ()


def test_answers_go_stale_as_fast_as_the_video_says_and_only_its_first_pass_counts() -> None:
    random = np.random.default_rng(0)
    noise = {i: random.integers(0, 256, (36, 64)).astype(np.uint8) for i in range(40)}
    calm = Video("ssd", noise, dict.fromkeys(range(40), one_box()))
    wild = Video("ssd", noise, {i: one_box(float(random.random()) * 0.7) for i in range(40)})
    seen = [record(seq, Outcome.TRACKED, "track", 5.0, source_index=seq % 40) for seq in range(120)]
    assert kappa_of(seen, wild, fps=FPS) > 2 * kappa_of(seen, calm, fps=FPS)
    assert kappa_of(seen, wild, fps=FPS) == kappa_of(seen[:40], wild, fps=FPS)


def test_a_scenario_is_made_of_what_the_run_was(run: RunResult) -> None:
    records, summary = as_lab(run)
    found = given(PLAN, TRACE, records, summary | {"worker_kills": [4.0]}, still(len(records)))
    scenario = found.scenario
    assert (scenario.frames, scenario.fps, scenario.duration_s) == (500, pytest.approx(FPS), pytest.approx(20.0))
    assert scenario.edge_slowdown == 4.0 and scenario.edge_bursts[0].factor == pytest.approx(1.25)
    assert set(scenario.prepare_quantiles_ms) == {6.0}
    assert scenario.motions == (0.0,) * 500
    assert len(str(found.document())) < 20_000, "the pictures' motion is not in it"
    assert [loss.start_s for loss in scenario.losses] == [4.0]
    again = simulate(found.plan, "adaptive", found.trace, scenario, seed=0)
    assert again.outcomes["captured"] == run.outcomes["captured"]
    with pytest.raises(SettingsError, match="1 frame"):
        given(PLAN, TRACE, records[:1], summary, still(1))


def test_what_codecs_do_is_no_part_of_what_the_policy_is_told() -> None:
    records = [
        record(seq, Outcome.FRAME, JPEG.name, 90.0, times_ms={"encode": 6.0}, uplink_bytes=9580) for seq in range(9)
    ]
    summary = {"edge_slowdown": 5.0, "deadline_ms": 150.0, "outages": [], "worker_kills": []}
    found = given(PLAN, TRACE, records, summary, still(9))
    assert found.plan.points == PLAN.points
    assert found.scenario.encode_scales["jpeg"] == pytest.approx(6.0 / JPEG.encode_ms)
    assert found.scenario.size_scales == pytest.approx({"jpeg": 2.0})


def test_what_the_link_does_not_account_for_is_told() -> None:
    """2 Mbit/s up, 8 down, 10 ms each way: 4790 payload bytes and 210 around them take 20 ms + 10 ms there, a reply
    of 500 bytes 0.5 ms + 10 ms back."""
    took = {"encode": 3.0, "network": 46.0, "worker_queue": 1.0, "decode": 1.0, "tail": 16.0}
    spaced = [
        record(2 * seq, Outcome.FRAME, "frame/jpeg-50", 100.0, times_ms=took, uplink_bytes=4790) for seq in range(9)
    ]
    beyond = beyond_link_ms(spaced, BY_NAME, steady(2e6), start_s=0.0)
    message_ms = 8 * (4790 + MESSAGE_BYTES) / 2e3
    assert beyond == pytest.approx([46.0 - message_ms - 20.5] * 9, abs=0.01)
    at_once = [replace(each, captured_ns=0) for each in spaced[:2]]
    first, second = beyond_link_ms(at_once, BY_NAME, steady(2e6), start_s=0.0)
    assert first - second == pytest.approx(message_ms, abs=0.01), "the second waits for the first"
    assert beyond_link_ms([replace(spaced[0], outcome=Outcome.TRACKED)], BY_NAME, steady(2e6), start_s=0.0) == []


def test_quantiles_are_told_with_their_count() -> None:
    assert quantiles(range(101)) == {"p5": 5.0, "p50": 50.0, "p95": 95.0, "count": 101}
    assert quantiles([]) is None


# -- what is held against it ----------------------------------------------------------------------------------------


def test_a_run_agrees_with_itself_and_not_with_another(run: RunResult) -> None:
    records, summary = as_lab(run)
    link = [{"up": {"taken_bytes": run.uplink_bytes - 7}}, {"up": {"taken_bytes": 7}}]
    lab, sim = lab_side(records, summary, link), sim_side(run)
    assert replace(lab, fidelity_by_outcome=sim.fidelity_by_outcome, fidelity=sim.fidelity) == sim
    assert lab.fidelity == pytest.approx(sim.fidelity)
    found = verdict(lab, sim)
    assert found.agrees and found.mix_points == 0.0
    slower = sim_side(simulate(PLAN, "adaptive", TRACE, replace(SCENARIO, edge_slowdown=10.0), seed=3))
    assert not verdict(lab, slower).agrees


def side(**more: Any) -> Side:
    values = {
        "mix": {"local": 0.5, "track": 0.5}, "outcomes": {}, "p50_ms": 100.0, "p95_ms": 140.0,
        "inferred_p50_ms": None, "inferred_p95_ms": None, "hit": 1.0, "fidelity": 0.9, "fidelity_by_outcome": {},
        "bytes_per_frame": 0.0, "latencies_ms": tuple(float(ms) for ms in range(201)),
    }  # fmt: skip
    return Side(**(values | more))


@pytest.mark.parametrize(
    ("sim", "within"),
    [
        ({"mix": {"local": 0.46, "track": 0.54}}, (True, True, True)),
        ({"mix": {"local": 0.44, "track": 0.50, "split": 0.06}}, (False, True, True)),
        ({"p50_ms": 109.0}, (True, True, True)),
        ({"p50_ms": 89.0}, (True, False, True)),
        ({"p95_ms": 113.0}, (True, True, True)),
        ({"p95_ms": 170.0}, (True, True, False)),
    ],
)
def test_each_tolerance_stands_for_itself(sim: dict[str, Any], within: tuple[bool, bool, bool]) -> None:
    found = verdict(side(), side(**sim))
    assert (found.mix, found.p50, found.p95) == within
    assert found.agrees == all(within)


def test_the_middle_of_seeds_is_their_mean_and_an_absent_place_counts_as_none() -> None:
    seeds = [side(p50_ms=90.0, inferred_p50_ms=80.0), side(p50_ms=110.0, mix={"track": 1.0}, fidelity=None)]
    found = middle(seeds)
    assert found.p50_ms == 100.0 and found.mix == {"local": 0.25, "track": 0.75}
    assert found.inferred_p50_ms == 80.0 and found.inferred_p95_ms is None and found.fidelity == 0.9


def test_frames_without_an_answer_have_no_latency_but_count_as_captured() -> None:
    records = [record(0, Outcome.TRACKED, "track", 5.0), record(1, Outcome.SHED, "", None)]
    summary = {"fidelity": None, "fidelity_by_outcome": {"tracked": None}}
    found = lab_side(records, summary, [])
    assert found.mix == {"shed": 0.5, "track": 0.5} and found.hit == 0.5 and found.p95_ms == 5.0
    with pytest.raises(ValueError, match="without a single answer"):
        lab_side(records[1:], summary, [])


def report(*sims: Side) -> dict[str, Any]:
    ran, never = {"median": 1.25, "count": 20}, {"median": 1.0, "count": 0}
    encode = {"jpeg": ran | {"median": 2.0}, "h264": ran, "webp": {"median": 15.0, "count": 1}}
    scales = {"edge": ran, "encode": encode, "cloud": never}
    row = {
        "link": "lte", "policy": "adaptive", "deadline_ms": 150.0, "lab": asdict(side()), "given": {"scales": scales}
    }  # fmt: skip
    rows = [
        row | {"sim": asdict(sim), "seeds": [asdict(sim)], "verdict": verdict(side(), sim).document()} for sim in sims
    ]
    return {"rows": rows, "seconds": 60.0, "seeds": 5, "machine": "2 cores", "date": "2026-01-01"}


def test_the_table_marks_what_is_within_its_tolerance() -> None:
    (cells,) = table_rows(report(side(p50_ms=120.0)))
    assert cells[:3] == ("`lte`", "`adaptive`", "50 / 50 / 0 / 0 → 50 / 50 / 0 / 0")
    assert cells[3] == "**0 (local)**" and cells[4:6] == ("100 → 120", "20%") and cells[7] == "**0%**"


def test_the_table_says_what_it_was_measured_on() -> None:
    lines = table(report(side(), side(p50_ms=120.0))).splitlines()
    assert len({line.count("|") for line in lines[:4]}) == 1, "as many cells in each line"
    assert "1 of 2 agree" in lines[-1] and "60 s each, means of 5 simulations" in lines[-1]
    assert "edge ×1.25 to 1.25, cloud ×–, encode ×1.25 to 2.00" in lines[-1]


@pytest.mark.parametrize("count", [1, 4])
def test_the_picture_has_a_panel_per_run(tmp_path: Path, count: int) -> None:
    path = tmp_path / "simlab.png"
    draw(report(*[side()] * count), path)
    wide = int.from_bytes(path.read_bytes()[16:20], "big")
    assert wide == {1: 520, 4: 1560}[count]


# -- how a lab run is asked for -----------------------------------------------------------------------------------


def test_without_names_the_pairs_that_show_most_run_and_else_every_policy_over_every_link() -> None:
    assert wanted(None, None) == list(PAIRS)
    assert wanted("adaptive,local-only", "lte,wifi") == [
        ("lte", "adaptive"), ("lte", "local-only"), ("wifi", "adaptive"), ("wifi", "local-only")
    ]  # fmt: skip
    assert wanted("cloud-only", None) == [("lab-default", "cloud-only")] and wanted(None, "lte") == [
        ("lte", "adaptive")
    ]


def test_a_name_is_a_preset_of_the_lab_or_a_link(tmp_path: Path) -> None:
    asked = argparse.Namespace(
        seconds=30.0, outage="2s@9s", kill_worker="20s", work=tmp_path, source="a.mp4", plan="a.plan"
    )
    thin, lte = lab_settings("thin-uplink", "only:split", asked), lab_settings("lte", "adaptive", asked)
    assert (thin.link, thin.deadline_ms, thin.policy) == ("uplink-64k", 400.0, "only:split")
    assert (lte.link, lte.deadline_ms, lte.duration_s, lte.kill_worker_s) == ("lte", 150.0, 30.0, 20.0)
    assert lte.outage[0].start_s == 9.0 and (lte.source, lte.plan) == ("a.mp4", Path("a.plan"))
    assert thin.out != lte.out and thin.out is not None and thin.out.parent == tmp_path
    words = command_line("lab", {name: getattr(thin, name) for name in thin.model_fields_set})
    assert words[words.index("--policy") + 1] == "only:split"
    assert words[words.index("--preset") + 1] == "thin-uplink"
