"""`splitmesh lab` as a first-time user runs it, on the built-in scene: what it promises is there, and opens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import av
import psutil
import pytest

from splitmesh.errors import MeshError
from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.models.registry import default_clip
from splitmesh.telemetry.spanlog import read_spans

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LAB = [sys.executable, "-m", "splitmesh.cli.main", "lab", "--config", os.devnull]
PROMISED = {
    "frames", "conserved", "latency_ms", "deadline_ms", "deadline_hit", "uplink_bytes", "decisions", "fidelity",
    "policy", "link", "model",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _built_in_scene() -> None:
    try:
        default_clip(lambda *_: None)
    except MeshError as exc:
        pytest.skip(f"the built-in scene can't be had: {exc}")


class Balance(HTMLParser):
    """Counts elements that were opened and not closed."""

    VOID = frozenset({"meta", "br", "img", "link", "hr", "input", "col", "source", "path", "use"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"


def test_a_short_run_keeps_every_promise(tmp_path: Path) -> None:
    out, summary_file = tmp_path / "run", tmp_path / "out.json"
    done = subprocess.run(
        [*LAB, "--duration", "8s", "--json", str(summary_file), "--out", str(out), "--web-port", "off"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(summary_file.read_text())
    assert summary.keys() >= PROMISED
    assert summary["frames"].keys() == {"captured", *Outcome}
    assert summary["frames"]["captured"] == sum(summary["frames"][outcome] for outcome in Outcome) > 100
    assert summary["conserved"] is True and summary["incidents"] == []
    assert summary["latency_ms"].keys() == {"p50", "p95", "p99"}
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p95"] <= summary["latency_ms"]["p99"]
    assert summary["deadline_ms"] == 150 and 0 < summary["deadline_hit"] <= 1 and 0 < summary["fidelity"] <= 1
    assert (summary["policy"], summary["link"], summary["model"]) == ("adaptive", "lab-default", "coco-ssdlite")
    assert sum(summary["decisions"].values()) + summary["frames"]["shed"] == summary["frames"]["captured"]

    lines = (out / "results.jsonl").read_text().splitlines()
    records = [FrameRecord.from_json_line(line) for line in lines]
    assert sorted(record.seq for record in records) == list(range(summary["frames"]["captured"]))
    assert summary["uplink_bytes"] == sum(record.uplink_bytes for record in records)
    with av.open(str(out / "annotated.mp4")) as film:
        assert film.streams.video[0].codec_context.name == "h264"
        assert sum(1 for _ in film.decode(video=0)) == len(records)
    page = Balance()
    page.feed((out / "report.html").read_text())
    page.close()
    assert page.open == [] and {"html", "svg", "table"} <= page.seen
    assert {row.service for row in read_spans(out)} == {"edge", "cloud"}
    story = subprocess.run(
        [sys.executable, "-m", "splitmesh.cli.main", "why", str(records[-1].seq), "--from", str(out)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert records[-1].frame_id in story.stdout and records[-1].outcome.value in story.stdout


def test_ctrl_c_at_a_terminal_ends_with_a_summary_and_nothing_left(tmp_path: Path) -> None:
    """A terminal sends SIGINT to the whole foreground group, the lab's own children included."""
    out = tmp_path / "run"
    process = subprocess.Popen(
        [*LAB, "--duration", "60s", "--out", str(out), "--web-port", "off", "--no-video"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        results, until = out / "results.jsonl", time.monotonic() + 120
        while not (results.exists() and results.read_bytes().count(b"\n") > 60):
            assert process.poll() is None and time.monotonic() < until, "the lab did not get there"
            time.sleep(0.05)
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 4
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    summary = json.loads((out / "summary.json").read_text())
    assert summary["interrupted"] is True and summary["conserved"] is True
    assert summary["frames"]["captured"] > 60 and "Traceback" not in said
    assert psutil.wait_procs(family, timeout=5)[1] == []
