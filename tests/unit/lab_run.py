"""A small made-up lab run, the same every time: thirty seconds with an outage, misses of several kinds."""

from __future__ import annotations

import math

import numpy as np

from splitmesh.frames.answer import Answer
from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.lab.plots import PlotData
from splitmesh.lab.records import RunRecords, check_lines
from splitmesh.lab.summary import Fidelity, RunFacts

DEADLINE_MS = 150.0
OUTAGE = (12.0, 4.0)
CAPACITY = ((0.0, 4.0e6), (8.0, 1.5e6), (20.0, 3.0e6))
SPLIT = "split/c2/u8zstd-5"


def one_box(x: float = 0.1) -> Answer:
    return Answer(
        np.asarray([[x, 0.1, x + 0.2, 0.4]], np.float32), np.asarray([0.9], np.float32), np.asarray([2], np.uint16)
    )


def frame(seq: int, outcome: Outcome, latency_ms: float | None, **more: object) -> FrameRecord:
    hit = latency_ms is not None and latency_ms <= DEADLINE_MS
    point = {Outcome.SHED: "", Outcome.LOCAL: "local", Outcome.TRACKED: "track"}.get(outcome, SPLIT)
    values: dict[str, object] = {
        "frame_id": f"edge.run.{seq}",
        "seq": seq,
        "source_index": seq % 250,
        "pts_ns": seq * 100_000_000,
        "captured_ns": seq * 100_000_000,
        "outcome": outcome,
        "point": point,
        "reason": "highest utility",
        "deadline_ms": DEADLINE_MS,
        "latency_ms": latency_ms,
        "deadline_hit": hit,
        "uplink_bytes": 9000 if outcome in (Outcome.SPLIT, Outcome.RESUMED) else 0,
        "answer": Answer.empty() if latency_ms is None else one_box(),
        **more,
    }
    return FrameRecord(**values)  # type: ignore[arg-type]


def made_up_frames(count: int = 300) -> list[FrameRecord]:
    frames = []
    for seq in range(count):
        at = seq / 10
        link = {"bandwidth_bps": 3.0e6 + 1.0e6 * math.sin(at / 4), "base_ms": 20.0, "backlog_bytes": 0.0}
        wave = 15.0 * math.sin(seq / 3)
        if OUTAGE[0] <= at < OUTAGE[0] + 0.6:
            shown = frame(
                seq,
                Outcome.RESUMED,
                139.0 + wave / 3,
                link=link,
                note="timer",
                predicted_ms=92.0,
                times_ms={"head": 40.0, "network": 80.0, "resume": 19.0},
            )
        elif OUTAGE[0] <= at < sum(OUTAGE):
            shown = frame(seq, Outcome.LOCAL, 118.0 + wave, link=link, predicted_ms=115.0)
        elif seq % 60 == 59:
            shown = frame(seq, Outcome.SHED, None, note="ring full")
        elif seq % 75 == 74:
            shown = frame(seq, Outcome.SPLIT, 171.0, link=link, predicted_ms=90.0, times_ms={"network": 120.0})
        elif seq % 7 == 0:
            shown = frame(seq, Outcome.TRACKED, 9.0, link=link, predicted_ms=8.0)
        else:
            shown = frame(seq, Outcome.SPLIT, 90.0 + wave, link=link, predicted_ms=88.0)
        frames.append(shown)
    return frames


def made_up_run(count: int = 300) -> RunRecords:
    return check_lines([record.to_json_line() for record in made_up_frames(count)], expected=count)


def made_up_fidelity(run: RunRecords) -> Fidelity:
    scores = {r.seq: 0.0 if r.latency_ms is None else 0.9 + 0.08 * math.sin(r.seq) for r in run.records}
    return Fidelity(scores, 250)


def made_up_facts() -> RunFacts:
    return RunFacts(
        policy="adaptive",
        model="coco-ssdlite",
        model_sha256="ab" * 32,
        source="bikes.mp4",
        link="lte-driving",
        deadline_ms=DEADLINE_MS,
        duration_s=30.0,
        edge_slowdown=3.0,
        outages=(OUTAGE,),
        worker_kills=(22.0,),
        link_accuracy={"throughput_error": 0.01},
        versions={"splitmesh": "0.1.0"},
    )


def made_up_plot(run: RunRecords) -> PlotData:
    return PlotData(
        run.records,
        DEADLINE_MS,
        30.0,
        made_up_fidelity(run).by_seq,
        CAPACITY,
        (OUTAGE,),
        (22.0,),
        title="adaptive on lte-driving",
    )
