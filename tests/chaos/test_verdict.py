"""What counts as a recovery and as a frame without a line, by hand."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench.chaos.report import merged, passed, summarised
from bench.chaos.verdict import IN_A_ROW, Seen, faults_of_log, in_time, ledger_of, missing, recovered_at, twice
from bench.chaos.wall_clock import build_wall_clock

from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord

MS = 1_000_000


def seen(seq: int, outcome: Outcome = Outcome.SPLIT, *, hit: bool = True) -> Seen:
    """A frame captured at 100 ms times `seq`."""
    captured_ns = seq * 100 * MS
    record = FrameRecord(f"e.r.{seq}", seq, seq, captured_ns, captured_ns, outcome, "p", "", 100.0, 50.0, hit)
    return Seen(record, captured_ns)


def row(first: int, count: int) -> list[Seen]:
    return [seen(seq) for seq in range(first, first + count)]


@pytest.mark.parametrize(
    ("frames", "first_seq"),
    [
        (row(0, 10), 0),
        (row(0, 9), None),
        (list(reversed(row(0, 10))), 0),
        ([*row(0, 5), seen(5, Outcome.RESUMED), *row(6, 10)], 6),
        ([*row(0, 5), seen(5, hit=False), *row(6, 10)], 6),
        ([*row(0, 5), *row(6, 10)], 6),
        ([*row(0, 9), seen(9, Outcome.LOCAL)], None),
        ([seen(seq, Outcome.FRAME) for seq in range(10)], 0),
    ],
    ids=["ten", "nine", "out of order", "resumed between", "late between", "gap", "local at the end", "pictures"],
)
def test_recovery_is_ten_in_a_row(frames: list[Seen], first_seq: int | None) -> None:
    found = recovered_at(frames, 0)
    assert (found.record.seq if found else None) == first_seq


def test_frames_captured_before_the_end_of_the_fault_do_not_count() -> None:
    frames = row(0, 10 + IN_A_ROW)
    found = recovered_at(frames, 450 * MS)
    assert found is not None and found.record.seq == 5


def test_gaps_doubles_and_hits() -> None:
    assert missing([0, 1, 3, 3, 7], 0, 5) == [2, 4]
    assert twice([0, 1, 3, 3, 7]) == [3]
    assert in_time([seen(0), seen(1, hit=False)]) == 0.5
    assert in_time([]) is None


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("Traceback (most recent call last):", 1),
        ("Task exception was never retrieved", 1),
        ("results are being lost: can't write x", 0),
    ],
)
def test_logs(line: str, count: int) -> None:
    assert len(faults_of_log(f"ready\n{line}\n")) == count


def test_the_last_ledger_of_a_log_counts() -> None:
    log = '{"message": "<Ledger captured=1 in_flight=1>"}\n{"message": "<Ledger captured=7 split=7 in_flight=0>"}\n'
    assert ledger_of(log) == {"captured": 7, "split": 7, "in_flight": 0}
    assert ledger_of("nothing") is None


def entry(*recoveries: float | None, faults: tuple[str, ...] = (), skipped: str = "") -> dict[str, object]:
    rows = [
        {"recovery_s": each, "frames": 10, "in_time": 0.9, "failed": 0, "lost_lines": 0, "faults": []}
        for each in recoveries
    ]
    return summarised(
        {"about": "x", "seeds": [0], "skipped": skipped, "repetitions": rows, "counts": [{}], "faults": list(faults)}
    )


@pytest.mark.parametrize(
    ("found", "fine"),
    [
        (entry(0.1, 0.3), True),
        (entry(0.1, None), False),
        (entry(0.1, faults=("frames without a line: [7]",)), False),
        (entry(), False),
        (entry(skipped="needs root"), True),
    ],
    ids=["fine", "no recovery", "a frame lost", "nothing struck", "skipped"],
)
def test_a_run_passes_only_if_every_strike_did(found: dict[str, object], fine: bool) -> None:
    assert passed([found]) is fine


def test_more_strikes_join_those_before() -> None:
    both = merged(entry(0.1, 0.2), entry(0.9))
    assert both["struck"] == 3
    assert both["recovery_median_s"] == 0.2 and both["recovery_worst_s"] == 0.9


def test_a_jumping_wall_clock_moves_the_wall_clock_alone(tmp_path: Path) -> None:
    clock = build_wall_clock(tmp_path)
    if clock is None:
        pytest.skip("no library can be preloaded here")
    say = "import time; print(time.time(), time.time_ns(), time.monotonic())"
    for shift_s in (0.0, 7200.0, -7200.0):
        clock.jump_to(shift_s)
        before_s = time.monotonic()
        said = subprocess.check_output(
            [sys.executable, "-c", say], env={**os.environ, **clock.environment}, text=True
        )
        wall_s, wall_ns, monotonic_s = map(float, said.split())
        assert abs(wall_s - time.time() - shift_s) < 60
        assert abs(wall_ns / 1e9 - time.time() - shift_s) < 60
        assert before_s <= monotonic_s <= time.monotonic()
    clock.close()
