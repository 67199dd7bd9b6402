"""The real lab, short: broker, worker, link and edge as processes, on a generated clip; then what it left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import psutil
import pytest
from mesh_run import Scene

from splitmesh.frames.outcome import Outcome
from splitmesh.lab.records import read_records
from splitmesh.media.clip import write_test_clip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
_STARTED_S = 120.0


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "shapes.mp4"
    write_test_clip(path)
    return path


@contextmanager
def lab(out: Path, clip: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A running `splitmesh lab`, killed at the end if the test did not see it out."""
    command = [
        sys.executable, "-m", "splitmesh.cli.main", "lab", "--config", os.devnull, "--source", str(clip),
        "--out", str(out), "--json", str(out / "out.json"), "--edge-slowdown", "2", "--web-port", "0", *arguments,
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + _STARTED_S
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until, "the lab did not get there in time"
        time.sleep(0.05)


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def leftovers(out: Path) -> list[str]:
    """Command lines of processes that still belong to the run in `out`."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = " ".join(process.info["cmdline"] or ())
        if str(out) in command and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(command)
    return found


def summary_of(out: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((out / "out.json").read_text())
    assert summary == json.loads((out / "summary.json").read_text())
    return summary


def test_a_run_with_outage_and_a_killed_worker_loses_no_frame_and_leaves_everything(tmp_path: Path, clip: Path):
    out = tmp_path / "run"
    with lab(out, clip, "--duration", "8s", "--outage", "1s@4s", "--kill-worker", "2s") as process:
        said, _ = process.communicate(timeout=_STARTED_S + 60)
    assert process.returncode == 0, said
    assert leftovers(out) == []
    summary = summary_of(out)
    run = read_records(out / "results.jsonl")
    assert summary["conserved"] is True and run.conserved
    frames = summary["frames"]
    assert frames["captured"] == len(run.records) == sum(frames[outcome.value] for outcome in Outcome) > 100
    assert [round(at) for at in summary["worker_kills"]] == [2] and summary["incidents"] == []
    assert [round(outage["length_s"]) for outage in summary["outages"]].count(1) >= 1
    assert 0.0 < summary["fidelity"] <= 1.0 and 0.0 < summary["deadline_hit"] <= 1.0
    assert summary["score"] == pytest.approx(summary["fidelity"] * summary["deadline_hit"], abs=1e-3)
    assert "worker killed" in said and "worker started again" in said
    assert "<svg" in (out / "report.html").read_text() and (out / "report.png").read_bytes()[:4] == b"\x89PNG"
    with av.open(str(out / "annotated.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == frames["captured"]


def test_ctrl_c_drains_the_edge_and_still_gives_a_summary(tmp_path: Path, clip: Path):
    out = tmp_path / "run"
    with lab(out, clip, "--duration", "60s", "--no-video") as process:
        wait_for(lambda: lines(out / "results.jsonl") > 20, process)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    summary = summary_of(out)
    assert summary["interrupted"] is True and summary["conserved"] is True
    assert 0 < summary["duration_s"] < 50
    assert not (out / "annotated.mp4").exists()
    assert leftovers(out) == []


def test_an_edge_that_dies_is_told_with_its_log_and_the_law_is_still_checked(tmp_path: Path, clip: Path):
    out = tmp_path / "run"
    with lab(out, clip, "--duration", "60s", "--no-video") as process:
        wait_for(lambda: lines(out / "results.jsonl") > 20, process)
        os.kill(json.loads((out / "processes" / "edge.ready.json").read_text())["pid"], signal.SIGKILL)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1, said
    summary = summary_of(out)
    assert summary["incidents"] == ["edge ended with SIGKILL"] and "edge ended with SIGKILL" in said
    assert summary["frames"]["captured"] >= 20 and isinstance(summary["conserved"], bool)
    assert leftovers(out) == []


def test_a_lab_that_is_killed_takes_everything_with_it(tmp_path: Path, clip: Path):
    out = tmp_path / "run"
    with lab(out, clip, "--duration", "60s", "--no-video") as process:
        wait_for(lambda: lines(out / "results.jsonl") > 5, process)
        assert len(leftovers(out)) >= 4
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        assert psutil.wait_procs(family, timeout=10)[1] == []
    assert leftovers(out) == []


def test_the_page_is_where_the_lab_says_and_its_gateways_death_costs_no_frame(tmp_path: Path, clip: Path):
    out = tmp_path / "run"
    ready = out / "processes" / "gateway.ready.json"
    with lab(out, clip, "--duration", "8s", "--no-video", "--workers", "2") as process:
        wait_for(ready.exists, process)
        gateway = json.loads(ready.read_text())
        url = f"http://127.0.0.1:{gateway['web_port']}/"
        with urllib.request.urlopen(url, timeout=10) as page:
            assert page.status == 200 and b"<title>" in page.read()
        wait_for(lambda: lines(out / "results.jsonl") > 20, process)
        os.kill(gateway["pid"], signal.SIGKILL)
        said, _ = process.communicate(timeout=_STARTED_S)
    assert f"page: {url}" in said
    summary = summary_of(out)
    assert summary["conserved"] is True and summary["incidents"] == ["gateway died with SIGKILL"]
    assert {"cloud.log", "cloud-2.log"} <= {path.name for path in (out / "processes").iterdir()}
    assert leftovers(out) == []


def test_without_a_page_there_is_no_gateway(tmp_path: Path, clip: Path):
    out = tmp_path / "run"
    with lab(out, clip, "--duration", "2s", "--no-video", "--web-port", "off") as process:
        said, _ = process.communicate(timeout=_STARTED_S)
    assert process.returncode == 0 and "page:" not in said
    assert summary_of(out)["frames"]["captured"] > 10
    assert not [path for path in (out / "processes").iterdir() if path.name.startswith("gateway")]


def test_a_lab_with_a_plan_of_its_own_and_only_features_sends_no_picture(tmp_path: Path, clip: Path, scene: Scene):
    out = tmp_path / "run"
    given = ("--plan", str(scene.bundle.folder), "--policy", "only:split", "--link", "wifi")
    with lab(out, clip, "--duration", "4s", "--no-video", *given) as process:
        said, _ = process.communicate(timeout=_STARTED_S + 60)
    assert process.returncode == 0, said
    summary = summary_of(out)
    assert summary["conserved"] is True and summary["policy"] == "only:split"
    places = {point.split("/")[0] for point in summary["decisions"]}
    assert "split" in places and "frame" not in places
    assert summary["frames"]["frame"] == 0 < summary["frames"]["split"]


def test_a_wrong_policy_says_so_and_leaves_nothing_running(tmp_path: Path, clip: Path):
    out = tmp_path / "run"
    with lab(out, clip, "--policy", "wishful", "--duration", "5s") as process:
        said, _ = process.communicate(timeout=_STARTED_S)
    assert process.returncode != 0
    assert "wishful" in said
    assert leftovers(out) == []
