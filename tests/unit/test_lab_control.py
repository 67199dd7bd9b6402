"""Pure parts of the lab's control: when the worker dies and returns, what the link offers, cores and commands."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from lab_run import frame, made_up_frames

from splitmesh.errors import OutputError
from splitmesh.frames.answer import Answer
from splitmesh.frames.outcome import Outcome
from splitmesh.lab.artifacts import make_folder, versions, write_whole
from splitmesh.lab.commands import Cores, clean_environment, command_line, share_cores
from splitmesh.lab.fate import Fate, WorkerFate, worker_fate
from splitmesh.lab.film import banner
from splitmesh.lab.link.bend import Bend
from splitmesh.lab.references import ReferenceCache, even_sample, measure_fidelity, score_records
from splitmesh.lab.truth import LinkTruth, emulation_report
from splitmesh.plan.bundle.read import Bundle
from splitmesh.provision.link.trace import LinkTrace, Step
from splitmesh.settings.model import EdgeSettings
from splitmesh.settings.units import Outage


def test_the_worker_is_killed_once_and_comes_back_after_the_delay():
    fate = WorkerFate([30.0], restart_after_s=3.0)
    assert fate.decide(29.9, running=True) is Fate.NOTHING
    assert fate.decide(30.1, running=True) is Fate.KILL
    assert fate.state == "killed"
    assert fate.decide(32.0, running=False) is Fate.NOTHING
    assert fate.decide(33.2, running=False) is Fate.RESTART
    assert fate.state == "running"
    assert fate.decide(40.0, running=True) is Fate.NOTHING
    assert fate.kills == [30.1] and fate.crashes == []


def test_a_worker_that_crashes_is_restarted_a_few_times_and_then_given_up():
    fate = WorkerFate([], restart_after_s=1.0)
    restarts = sum(fate.decide(t / 2, running=False) is Fate.RESTART for t in range(100))
    assert restarts == 3 and len(fate.crashes) == 4
    assert fate.state == "died" and fate.kills == []


def test_a_worker_struck_by_hand_stays_away_until_it_is_released_and_what_was_due_meanwhile_is_over():
    fate = WorkerFate([30.0], restart_after_s=3.0)
    fate.strike(20.0)
    assert fate.state == "killed" and fate.kills == [20.0]
    assert all(fate.decide(t, running=False) is Fate.NOTHING for t in (21.0, 24.0, 60.0))
    fate.release(60.0)
    assert fate.state == "running" and fate.decide(60.5, running=True) is Fate.NOTHING
    assert fate.kills == [20.0] and fate.crashes == []


def test_a_bend_is_part_of_the_truth_about_the_link():
    truth = LinkTruth(trace()).bent(Bend(8.0, 4.0, 0.5))
    truth = replace(truth, offset_s=1.0)
    assert (
        truth.state(9.0) == (4e6, False)
        and truth.state(10.5)[0] == pytest.approx(2e6)
        and truth.state(12.5)[0] == 0.5e6
    )
    steps = dict(truth.capacity(20.0))
    assert steps[9.5] == 2e6 and steps[11.5] == 0.5e6 and steps[14.0] == 1e6 and steps[6.5] == 4e6


@pytest.mark.parametrize(("kill", "restart", "back_at"), [(30.0, None, 33.0), (30.0, 42.0, 42.0), (30.0, 10.0, 33.0)])
def test_restart_time_is_a_time_of_the_run_or_three_seconds_later(kill, restart, back_at):
    fate = worker_fate(kill, restart)
    assert fate.decide(kill, running=True) is Fate.KILL
    assert fate.decide(back_at - 0.1, running=False) is Fate.NOTHING
    assert fate.decide(back_at, running=False) is Fate.RESTART


def test_cores_are_shared_so_that_the_edge_has_its_own():
    assert share_cores((0, 1), edge_threads=1) == Cores((0,), (1,))
    assert share_cores((2, 3, 4, 5), edge_threads=2) == Cores((2, 3), (4, 5))
    assert share_cores((0, 1), edge_threads=4) == Cores((0,), (1,))
    assert share_cores((0,), edge_threads=1) == Cores() == share_cores((), edge_threads=1)


def test_command_lines_carry_every_value_as_a_flag_and_keep_user_settings_out():
    values = {
        "source": "a.mp4", "deadline_ms": 150.0, "duration_s": 8.0, "loop": True, "pace": False,
        "edge_slowdown": 6.0, "web_port": None, "plan": Path("/tmp/x.plan"),
    }  # fmt: skip
    command = command_line("edge", values)
    assert command[1:6] == ["-m", "splitmesh.cli.main", "edge", "--config", os.devnull]
    assert command[6:] == [
        "--source", "a.mp4", "--deadline", "150ms", "--duration", "8s", "--loop", "--no-pace",
        "--edge-slowdown", "6", "--web-port", "off", "--plan", "/tmp/x.plan",
    ]  # fmt: skip
    assert EdgeSettings(**values).duration_s == 8.0
    outages = (Outage(20.0, 5.0), Outage(40.0, 2.0, cut=True))
    assert "5s@20s,2s@40s/cut" in command_line("link", {"outage": outages})
    around = {"SPLITMESH_EDGE_THREADS": "4", "SPLITMESH_CONFIG": "x", "SPLITMESH_CACHE": "y", "A": "b"}
    assert clean_environment(around) == {"SPLITMESH_CACHE": "y", "A": "b"}


def trace() -> LinkTrace:
    return LinkTrace("t", (Step(0.0, 4e6), Step(10.0, 1e6)), 20.0, loop=False, outages=(Outage(5.0, 2.0),))


def test_the_truth_about_the_link_is_told_on_the_clock_of_the_run():
    truth = LinkTruth(trace(), offset_s=1.0)
    assert truth.state(4.0) == (4e6, False)
    assert truth.state(6.5) == (0.0, True)
    assert truth.state(14.0) == (1e6, False)
    assert truth.outages(30.0) == ((6.0, 2.0),) and truth.outages(5.0) == ()
    steps = dict(truth.capacity(20.0))
    assert steps[6.5] == 4e6 and steps[12.0] == 1e6  # the outage is drawn as an outage, not smeared into the rate


def test_the_estimate_is_judged_outside_outages_only():
    truth = LinkTruth(trace())
    wrong = {"bandwidth_bps": 5e6}
    records = [frame(seq, Outcome.LOCAL, 50.0, link=wrong) for seq in range(40)]
    assert truth.estimate_error(records) == pytest.approx(0.25)
    during = [frame(seq, Outcome.LOCAL, 50.0, link=wrong) for seq in range(52, 68)]
    assert truth.estimate_error(during) is None and truth.estimate_error([]) is None


def test_a_long_source_is_sampled_evenly_with_both_ends():
    assert even_sample([3, 1, 2, 2], 10) == [1, 2, 3]
    sample = even_sample(range(10_000), 600)
    assert len(sample) == len(set(sample)) == 600 and (sample[0], sample[-1]) == (0, 9999)
    gaps = {b - a for a, b in itertools.pairwise(sample)}
    assert gaps <= {16, 17}


def test_references_survive_the_cache_and_a_damaged_one_is_ignored(tmp_path: Path):
    cache = ReferenceCache(tmp_path / "references", "a" * 64, "c" * 64, "b" * 64)
    answers = {r.source_index: r.answer for r in made_up_frames(20)}
    answers[77] = Answer.of_tensors({"mask": np.eye(5, dtype=np.uint8)})
    cache.write(answers)
    assert {i: a.to_json() for i, a in cache.read().items()} == {i: a.to_json() for i, a in answers.items()}
    np.testing.assert_array_equal(cache.read()[77].mask, np.eye(5))
    for damage in (cache.path.read_text()[:50], "[]", '{"version": 2, "answers": {"1": []}}'):
        cache.path.write_text(damage)
        assert cache.read() == {}
    assert replace(cache, manifest_sha256="d" * 64).path != cache.path  # read another way, a model answers otherwise


def test_answers_that_the_results_do_not_hold_are_not_scored(tmp_path: Path):
    source = tmp_path / "clip.mp4"
    source.touch()
    records = [frame(0, Outcome.LOCAL, 20.0), replace(frame(1, Outcome.LOCAL, 20.0), left_out_bytes=8_000_000)]
    found = measure_fidelity(
        cast(Bundle, None), str(source), records, cache=tmp_path, threads=1, progress=lambda *_: None
    )
    assert not found.by_seq and "8000000 bytes were too large for results.jsonl" in found.skipped


def test_frames_without_an_answer_score_zero_even_where_there_was_nothing_to_see():
    records = [frame(0, Outcome.SPLIT, 90.0, answer=Answer.empty()), frame(1, Outcome.SHED, None)]
    references = {0: Answer.empty(), 1: Answer.empty()}
    assert score_records("ssd", records, references) == {0: 1.0, 1: 0.0}
    assert score_records("ssd", records, {0: Answer.empty()}) == {0: 1.0}


def test_the_banner_names_point_latency_and_lateness():
    assert banner(frame(20, Outcome.SPLIT, 171.0)) == "  2.0 s  ·  split  ·  split/c2/u8zstd-5  ·  171 ms LATE"
    assert banner(frame(20, Outcome.SHED, None, note="ring full")).endswith("shed  ·  ring full")


def test_every_run_gets_its_own_folder_and_latest_points_to_the_last(tmp_path: Path):
    root = tmp_path / "lab-out"
    first, second = make_folder(None, root=root), make_folder(None, root=root)
    assert first != second and (root / "latest").resolve() == second
    assert make_folder(tmp_path / "mine", root=root) == tmp_path / "mine"
    assert (root / "latest").resolve() == second


def test_files_appear_whole_and_errors_name_the_path(tmp_path: Path):
    write_whole(tmp_path / "new" / "a.json", "{}\n")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.json"]
    with pytest.raises(OutputError) as failure:
        write_whole(tmp_path / "new" / "a.json" / "b", b"x")
    assert failure.value.path.endswith("a.json/b")
    with pytest.raises(OutputError):
        make_folder(tmp_path / "new" / "a.json")
    assert versions()["splitmesh"]


def test_the_emulator_is_judged_by_its_saturated_seconds_only():
    rows = [
        {"up": {"busy": 1.0, "asked_bytes": 1000, "delivered_bytes": 990}},
        {"up": {"busy": 0.99, "asked_bytes": 1000, "delivered_bytes": 1030}},
        {"up": {"busy": 0.2, "asked_bytes": 1000, "delivered_bytes": 10}},
        {"up": {"busy": 1.0, "asked_bytes": 0, "delivered_bytes": 0}},
    ]
    assert emulation_report(rows) == {"saturated_s": 2, "throughput_median_error": 0.02}
    assert emulation_report([]) == {"saturated_s": 0, "throughput_median_error": None}
