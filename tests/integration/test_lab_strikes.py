"""The real lab with a hand on it: what its page does to link, worker and edge happens, costs no frame and is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_lab_run import clip, lab, leftovers, lines, summary_of, wait_for

from splitmesh.lab.records import read_jsonl, read_records
from splitmesh.lab.setup import EDGE, WORKER

__all__ = ["clip"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@contextmanager
def door(out: Path) -> Iterator[httpx.Client]:
    """Somebody who has the page open."""
    url = f"http://127.0.0.1:{json.loads((out / 'processes' / 'gateway.ready.json').read_text())['web_port']}"
    with httpx.Client(base_url=url, headers={"origin": url}, timeout=10) as made:
        made.get("/")
        session = made.get("/api/session").json()
        assert session["lab"] is True
        made.headers["x-csrf-token"] = session["csrf"]
        yield made


def done(page: httpx.Client, action: str, **body: Any) -> None:
    answer = page.post(f"/api/lab/{action}", json=body)
    assert answer.status_code == 200, answer.text


def test_what_is_done_to_a_lab_from_its_page_happens_costs_no_frame_and_is_told(tmp_path: Path, clip: Path) -> None:
    out = tmp_path / "run"
    worker = out / "processes" / "cloud.ready.json"
    with lab(out, clip, "--duration", "14s", "--link", "wifi", "--no-video") as process:
        wait_for((out / "processes" / "gateway.ready.json").exists, process)
        wait_for(lambda: lines(out / "results.jsonl") > 20, process)
        with door(out) as page:
            done(page, "bend-link", factor=0.02, seconds=4)
            done(page, "slow-edge", edge=EDGE, factor=3)
            done(page, "kill-worker", worker=WORKER)
            again = page.post("/api/lab/kill-worker", json={"worker": WORKER})
            assert again.status_code == 502 and "does not run" in again.json()["error"]
            nobody = page.post("/api/lab/restart-worker", json={"worker": "nobody"})
            assert nobody.status_code == 404 and WORKER in nobody.json()["error"]
            assert page.post("/api/lab/slow-edge", json={"edge": "nobody", "factor": 2}).status_code == 404
            killed = json.loads(worker.read_text())["pid"]
            done(page, "restart-worker", worker=WORKER)
            assert page.post("/api/lab/restart-worker", json={"worker": WORKER}).status_code == 502
            wait_for(lambda: worker.exists() and json.loads(worker.read_text())["pid"] != killed, process)
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    summary = summary_of(out)
    assert summary["conserved"] is True and read_records(out / "results.jsonl").conserved
    assert summary["incidents"] == [] and leftovers(out) == []
    told = [(strike["what"], strike["target"], strike["factor"]) for strike in summary["strikes"]]
    assert told == [
        ("bend-link", "", 0.02), ("slow-edge", EDGE, 3.0), ("kill-worker", WORKER, None),
        ("restart-worker", WORKER, None),
    ]  # fmt: skip
    assert summary["worker_kills"] == [summary["strikes"][2]["at_s"]]
    asked = [row["up"]["asked_bytes"] for row in read_jsonl(out / "link.jsonl")]
    assert sum(bytes_ < 0.2 * max(asked) for bytes_ in asked) >= 3, "four seconds of a fiftieth, three of them whole"
    assert "link bent at" in said and "link bent at" in (out / "report.html").read_text()


def test_a_worker_that_is_killed_by_hand_stays_away_and_the_run_ends_without_it(tmp_path: Path, clip: Path) -> None:
    out = tmp_path / "run"
    with lab(out, clip, "--duration", "7s", "--no-video") as process:
        wait_for((out / "processes" / "gateway.ready.json").exists, process)
        wait_for(lambda: lines(out / "results.jsonl") > 20, process)
        with door(out) as page:
            done(page, "kill-worker", worker=WORKER)
        killed = lines(out / "results.jsonl")
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    summary = summary_of(out)
    assert summary["conserved"] is True and summary["incidents"] == []
    assert summary["frames"]["captured"] > killed and "started again" not in said
