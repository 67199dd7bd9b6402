"""`meshload find` on real servers: the rate that it finds, and what is left when something dies meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from meshload_rig import meshload, server

from meshload.cli.main import EXIT_DIED, EXIT_LOST


def searching(port: int, file: Path, *options: str) -> subprocess.Popen[str]:
    """Tries of two seconds at 100, 200, 400 … a second, until something ends them."""
    words = ("--slo", "ok>0.5", "--from", "100", "-d", "2s", "--warmup", "0s", "--json", str(file), *options)
    command = [sys.executable, "-m", "meshload.cli.main", "find", *words, f"http://127.0.0.1:{port}/"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(load: subprocess.Popen[str], file: Path) -> tuple[str, dict[str, Any]]:
    """What it said and wrote."""
    out, err = load.communicate(timeout=60)
    assert err == ""
    found: dict[str, Any] = json.loads(file.read_text())
    assert out.splitlines()[1].endswith("kept") and out.count("\n") == len(found["tries"]) + 3
    return out, found


def test_find_tells_each_try_and_the_rate(tmp_path: Path) -> None:
    """Five in flight at 50 ms are 100 a second: at 200 they queue."""
    file = tmp_path / "find.json"
    with server("http", "--latency", "constant:50") as (port, _):
        tries = ("--from", "50", "--precision", "0.9", "-d", "2s", "--warmup", "0s", "--arrivals", "constant")
        url = f"http://127.0.0.1:{port}/"
        done = meshload("find", "--slo", "p50<250ms", *tries, "-c", "5", "--json", str(file), url)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(file.read_text())
    assert 50 <= found["rate_rps"] < found["broken_rps"] <= 200 and len(found["tries"]) >= 2
    assert done.stdout.count("\n") == len(found["tries"]) + 2 and "broken: p50<250ms" in done.stdout


def test_a_server_that_dies_ends_the_search_and_what_was_tried_is_kept(tmp_path: Path) -> None:
    """200 requests are the first try: it dies in the second, and the third finds nobody."""
    file = tmp_path / "find.json"
    with server("http", "--tell", "250") as (port, child):
        load = searching(port, file, "--arrivals", "constant")
        assert child.stdout and json.loads(child.stdout.readline()) == {"requests": 250}
        child.kill()
        out, found = ended(load, file)
    assert load.returncode == EXIT_LOST and found["ended"] == "lost"
    assert (found["rate_rps"], found["broken_rps"]) == (100, 200)
    assert [row["kept"] for row in found["tries"]] == [True, False]
    assert (
        "the target was lost" in found["tries"][1]["broken"] and "connection refused" in found["tries"][1]["errors"]
    )
    assert "! http://127.0.0.1" in out and "100.0 requests/s are kept; then the target was lost" in out


def test_a_process_that_dies_ends_the_search_and_what_was_tried_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "find.json"
    with server("http", "--tell", "250") as (port, child):
        load = searching(port, file, "--arrivals", "constant", "-t", "2")
        assert child.stdout and json.loads(child.stdout.readline()) == {"requests": 250}
        processes = Path(f"/proc/{load.pid}/task/{load.pid}/children").read_text().split()
        assert len(processes) == 2
        os.kill(int(processes[0]), signal.SIGKILL)
        out, found = ended(load, file)
    assert load.returncode == EXIT_DIED and found["ended"] == "died" and found["rate_rps"] == 100
    assert [len(row["died"]) for row in found["tries"]] == [0, 1]
    assert "PROCESS 1 OF 2 DIED" in out and "100.0 requests/s are kept; then a process of the generator died" in out
