from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from lab_run import frame, made_up_facts, made_up_fidelity, made_up_frames, made_up_run

from splitmesh.frames.outcome import Outcome
from splitmesh.lab.records import check_lines, read_jsonl, read_records
from splitmesh.lab.summary import Fidelity, answered_in_time, finite, inferred_in_time, summarise


def lines(*frames) -> list[str]:
    return [one.to_json_line() for one in frames]


def test_a_clean_run_is_conserved_and_counts_every_outcome():
    run = made_up_run(300)
    assert run.conserved and run.faults() == []
    counts = run.counts()
    assert counts["captured"] == 300 == sum(count for name, count in counts.items() if name != "captured")
    assert counts["resumed"] == 6 and counts["local"] == 34 and counts["shed"] == 5 and counts["expired"] == 0


@pytest.mark.parametrize(
    ("damage", "attribute", "found"),
    [
        (lambda rows: rows[:4] + rows[5:], "missing", (4,)),
        (lambda rows: [*rows, rows[3]], "duplicates", (3,)),
        (lambda rows: [*rows[:-1], rows[-1][:40]], "malformed", (10,)),
        (lambda rows: rows[:-2], "missing", (8, 9)),
        (lambda rows: rows[2:], "missing", (0, 1)),
    ],
)
def test_each_breach_of_the_conservation_law_is_found_and_named(damage, attribute, found):
    rows = lines(*made_up_frames(10))
    run = check_lines(damage(rows), expected=10)
    assert getattr(run, attribute) == found
    assert not run.conserved
    assert any(str(found[0]) in fault for fault in run.faults())
    assert run.counts()["captured"] == 10


def test_an_edge_that_counts_fewer_frames_than_it_answered_is_found():
    run = check_lines(lines(*made_up_frames(10)), expected=9, exact=True)
    assert not run.conserved and "captured 9" in run.faults()[0]


def test_an_edge_last_heard_of_before_its_end_may_have_answered_more():
    assert check_lines(lines(*made_up_frames(10)), expected=9).conserved


def test_order_of_lines_does_not_matter_and_unknown_expectation_is_allowed():
    rows = lines(*made_up_frames(10))
    run = check_lines(reversed(rows))
    assert run.conserved and [r.seq for r in run.records] == list(range(10))


def test_a_run_without_a_results_file_has_no_frames_but_misses_those_that_were_captured(tmp_path: Path):
    assert read_records(tmp_path / "results.jsonl").captured == 0
    lost = read_records(tmp_path / "results.jsonl", expected=3)
    assert not lost.conserved and lost.missing == (0, 1, 2)


def test_partial_lines_of_a_log_in_the_making_are_left_out(tmp_path: Path):
    (tmp_path / "link.jsonl").write_text('{"t": 1}\n[1]\n{"t": 2}\n{"t": 3, "b')
    assert read_jsonl(tmp_path / "link.jsonl") == [{"t": 1}, {"t": 2}]


def test_in_time_means_answered_within_the_deadline_whatever_the_edge_says():
    late = frame(0, Outcome.SPLIT, 151.0, deadline_hit=True)
    assert not answered_in_time(late)
    assert answered_in_time(frame(0, Outcome.SPLIT, 150.0))
    tracked = frame(0, Outcome.TRACKED, 5.0)
    assert answered_in_time(tracked) and not inferred_in_time(tracked)
    assert not answered_in_time(frame(0, Outcome.EXPIRED, None))


def test_the_summary_of_four_frames_by_hand():
    run = check_lines(
        lines(
            frame(0, Outcome.SPLIT, 100.0),
            frame(1, Outcome.TRACKED, 10.0),
            frame(2, Outcome.LOCAL, 200.0),
            frame(3, Outcome.SHED, None),
        ),
        expected=4,
    )
    summary = summarise(run, made_up_facts(), Fidelity({0: 1.0, 1: 0.5, 2: 1.0, 3: 0.0}, 4))
    assert summary["conserved"] is True
    assert summary["deadline_hit"] == 0.5
    assert summary["inferred_hit"] == 0.25
    assert summary["fidelity"] == 0.75
    assert summary["score"] == 0.375
    assert summary["uplink_bytes"] == 9000
    assert summary["decisions"] == {"split/c2/u8zstd-5": 1, "track": 1, "local": 1}
    assert summary["latency_ms"]["p50"] == 100.0
    assert summary["fidelity_by_outcome"] == {"split": 1.0, "tracked": 0.5}
    assert summary["fidelity_by_point"] == {"split/c2/u8zstd-5": 1.0}, "of what was answered where it was decided"


def test_the_summary_of_nothing_is_honest_nulls_and_valid_json():
    summary = summarise(check_lines([]), made_up_facts(), Fidelity.none("not measured: the source is live"))
    assert summary["deadline_hit"] is None and summary["score"] is None and summary["latency_ms"]["p95"] is None
    assert summary["fidelity_note"] == "not measured: the source is live"
    json.dumps(summary, allow_nan=False)


def test_the_summary_holds_every_promised_key():
    run = made_up_run()
    summary = summarise(run, made_up_facts(), made_up_fidelity(run))
    promised = {
        "frames", "conserved", "latency_ms", "deadline_ms", "deadline_hit", "inferred_hit", "uplink_bytes",
        "decisions", "fidelity", "score", "policy", "link", "model", "edge_slowdown", "emulation", "outages",
        "worker_kills", "duration_s", "link_accuracy", "versions",
    }  # fmt: skip
    assert promised <= set(summary)
    assert set(summary["frames"]) == {
        "captured", "local", "split", "frame", "resumed", "tracked", "shed", "expired",
    }  # fmt: skip
    assert "×3" in summary["emulation"]
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_nan_never_reaches_json():
    assert finite({"a": [math.nan, 1.0, {"b": math.inf}]}) == {"a": [None, 1.0, {"b": None}]}
