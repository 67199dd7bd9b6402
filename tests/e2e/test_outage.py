"""The guarantee, on the built-in scene over a good uplink: ten seconds without it, then the worker killed.

The same run twice, adaptive and local-only: same link, same seed, same frames.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from splitmesh.errors import MeshError
from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.lab.records import read_records
from splitmesh.lab.summary import answered_in_time
from splitmesh.models.registry import default_clip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

OUTAGE_S, OUTAGE_LENGTH_S = 15, 10
KILL_S, RESTART_S = 32, 34
RESUME_WITHIN_S = 5.0
OFFLOADED = (Outcome.SPLIT, Outcome.FRAME)


@dataclass(frozen=True, slots=True)
class Run:
    """What one lab run left behind."""

    summary: dict[str, Any]
    records: tuple[FrameRecord, ...]
    said: str

    def between(self, start_s: float, end_s: float) -> list[FrameRecord]:
        """Frames captured in [start_s, end_s) of the run."""
        return [record for record in self.records if start_s <= record.captured_ns / 1e9 < end_s]

    def first_offload_s(self, after_s: float) -> float:
        """How long after `after_s` the first frame was captured that a worker answered; inf: none."""
        later = (r.captured_ns / 1e9 - after_s for r in self.records if r.outcome in OFFLOADED)
        return min((wait_s for wait_s in later if wait_s >= 0), default=float("inf"))


def lab(out: Path, policy: str) -> Run:
    arguments = {
        "policy": policy,
        "link": "wifi",
        "duration": "45s",
        "outage": f"{OUTAGE_LENGTH_S}s@{OUTAGE_S}s",
        "kill-worker": f"{KILL_S}s",
        "restart-worker": f"{RESTART_S}s",
        "seed": "7",
        "out": str(out),
        "web-port": "off",
        "config": os.devnull,
    }
    flags = [f"--{name}={value}" for name, value in arguments.items()]
    done = subprocess.run(
        [sys.executable, "-m", "splitmesh.cli.main", "lab", "--quiet", "--no-video", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    summary = json.loads((out / "summary.json").read_text())
    return Run(summary, read_records(out / "results.jsonl").records, done.stdout)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    try:
        default_clip(lambda *_: None)
    except MeshError as exc:
        pytest.skip(f"the built-in scene can't be had: {exc}")
    folder = tmp_path_factory.mktemp("outage")
    return {policy: lab(folder / policy, policy) for policy in ("adaptive", "local-only")}


def outage(run: Run) -> tuple[float, float]:
    """(start, end) in seconds of the run, as the link says that it happened."""
    (only,) = run.summary["outages"]
    assert only["start_s"] == pytest.approx(OUTAGE_S, abs=2)
    assert only["length_s"] == pytest.approx(OUTAGE_LENGTH_S, abs=0.1)
    return only["start_s"], only["start_s"] + only["length_s"]


@pytest.mark.parametrize("policy", ["adaptive", "local-only"])
def test_no_frame_is_without_a_result(runs: dict[str, Run], policy: str) -> None:
    run = runs[policy]
    frames = run.summary["frames"]
    assert run.summary["conserved"] is True and run.summary["incidents"] == []
    assert frames["captured"] == len(run.records) == sum(frames[outcome.value] for outcome in Outcome)
    assert frames["captured"] > 500


def test_an_outage_costs_no_more_than_doing_without_the_cloud(
    runs: dict[str, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    adaptive, alone = runs["adaptive"], runs["local-only"]
    start_s, end_s = outage(adaptive)
    during = {record.seq: record for record in adaptive.between(start_s, end_s)}
    same = {record.seq: record for record in alone.records if record.seq in during}
    assert len(during) > 100 and same.keys() == during.keys()
    hits = [sum(map(answered_in_time, each.values())) / len(each) for each in (during, same)]
    back_s = adaptive.first_offload_s(end_s)
    again_s = adaptive.first_offload_s(RESTART_S)
    with capsys.disabled():
        print(
            f"\n  outage {start_s:.1f} to {end_s:.1f} s, {len(during)} frames: in time {hits[0]:.3f} adaptive, "
            f"{hits[1]:.3f} local-only\n  offloading again {back_s:.1f} s after the outage, {again_s:.1f} s after "
            f"the restart\n  whole run: in time {adaptive.summary['deadline_hit']} adaptive, "
            f"{alone.summary['deadline_hit']} local-only; score {adaptive.summary['score']}, {alone.summary['score']}"
        )
    assert hits[0] >= hits[1] - 0.01
    assert back_s <= RESUME_WITHIN_S
    assert again_s <= RESUME_WITHIN_S


def test_nothing_claims_an_answer_from_a_dead_link_or_worker(runs: dict[str, Run]) -> None:
    adaptive = runs["adaptive"]
    start_s, end_s = outage(adaptive)
    (killed_s,) = adaptive.summary["worker_kills"]
    for silent in (adaptive.between(start_s + 0.5, end_s - 0.5), adaptive.between(killed_s + 0.5, RESTART_S - 0.5)):
        assert silent and not any(record.outcome in OFFLOADED for record in silent)
    assert not any(record.outcome in OFFLOADED for record in runs["local-only"].records)
    assert runs["local-only"].summary["uplink_bytes"] == 0


def test_the_link_was_used_before_and_after(runs: dict[str, Run]) -> None:
    adaptive = runs["adaptive"]
    start_s, _ = outage(adaptive)
    assert sum(record.outcome in OFFLOADED for record in adaptive.between(0, start_s)) > 20
    assert sum(record.outcome in OFFLOADED for record in adaptive.between(RESTART_S, 45)) > 20
