"""`splitmesh bench policy` on a small plan: links of every format to JSON, table and picture; its refusals."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from splitmesh.cli import main
from splitmesh.cli.bench.policy_pool import spread_over
from splitmesh.errors import MeshError, SettingsError
from splitmesh.media.clip import write_test_clip

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from plan_graphs import residual_classifier, save

FAST = ("--duration", "4s", "--fps", "10")
SABRE = [{"duration_ms": 2000, "bandwidth_kbps": 4000, "latency_ms": 20}, {"duration_ms": 2000, "bandwidth_kbps": 200,
         "latency_ms": 80}]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plan of a small classifier, and link traces in three formats."""
    folder = tmp_path_factory.mktemp("home")
    save(residual_classifier(), folder / "tiny.onnx")
    write_test_clip(folder / "seen.mp4", width=96, height=96, frames=30, seed=1)
    traces = folder / "traces" / "logs"
    traces.mkdir(parents=True)
    (traces / "bus.json").write_text(json.dumps(SABRE))
    (traces / "car.up").write_text("".join(f"{at}\n" for at in range(0, 6000, 12)))
    (traces / "ferry").write_text("".join(f"{at} {1 + at % 3}\n" for at in range(8)))
    (traces / ".hidden").write_text("no trace")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        status, _, err = run("plan", "tiny.onnx", "--video", "seen.mp4", "--no-int8", "--quiet")
    assert status == 0, err
    return folder


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("COLUMNS", "160")


def run(*words: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `splitmesh WORDS`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main.run(list(words))
    return status, out.getvalue(), err.getvalue()


def report(*words: str) -> dict[str, Any]:
    here = () if "--jobs" in words else ("--jobs", "1")
    asked = ("--plan", "tiny.plan", *FAST, *words, *here, "--json", "out.json", "--quiet")
    status, out, err = run("bench", "policy", *asked)
    assert (status, out) == (0, ""), err
    document: dict[str, Any] = json.loads(Path("out.json").read_text())
    return document


def test_policies_are_compared_over_every_trace(home: Path) -> None:
    asked = (
        "--plan",
        "tiny.plan",
        "--traces",
        "traces",
        "--links",
        "wifi",
        "--policies",
        "adaptive,local,static-best",
    )
    status, out, err = run(
        "bench", "policy", *asked, *FAST, "--seeds", "2", "--json", "policy.json", "--plot", "policy.png"
    )
    assert status == 0, err
    document = json.loads((home / "policy.json").read_text())
    links = ["logs/bus.json", "logs/car.up", "logs/ferry", "wifi"]
    assert list(document["traces"]) == links
    for entry in document["traces"].values():
        assert list(entry["policies"]) == ["adaptive", "local", "static-best"]
        for row in entry["policies"].values():
            assert 0 < row["utility"] <= row["hit"] <= 1
            assert {"mean", "p50", "p95", "p99"} == row["latency_ms"].keys()
            assert row["outcomes"]["captured"] == 2 * 40 and row["oracle_ratio"] is None
            assert row["ci95"][0] <= row["utility"] <= row["ci95"][1]
        assert entry["policies"]["local"]["bytes_per_frame"] == 0
        assert entry["policies"]["static-best"]["point"]
    assert all(cost > 0 for cost in document["us_per_frame"].values())
    assert (home / "policy.png").read_bytes().startswith(b"\x89PNG")
    assert all(link in out for link in links) and "adaptive ahead by" in out and "written: policy.json" in out


def test_figures_repeat_but_for_what_they_cost() -> None:
    asked = ("--links", "lte", "--policies", "adaptive", "--seeds", "2", "--edge-slowdown", "20")
    first, again = report(*asked), report(*asked)
    assert first.pop("us_per_frame").keys() == again.pop("us_per_frame").keys()
    assert first == again


def test_figures_do_not_depend_on_the_number_of_processes() -> None:
    asked = ("--links", "lte,adsl", "--policies", "adaptive,static-best,oracle-greedy", "--seeds", "2")
    alone, both = (report(*asked, "--edge-slowdown", "4,20", "--jobs", jobs) for jobs in ("1", "2"))
    costs = [each.pop("us_per_frame") for each in (alone, both)]
    assert costs[0].keys() == costs[1].keys() and all(cost > 0 for each in costs for cost in each.values())
    assert json.dumps(alone) == json.dumps(both)
    assert list(alone["traces"]) == ["lte @4x", "adsl @4x", "lte @20x", "adsl @20x"]


def test_recoveries_are_compared_too_where_they_are_asked_for(home: Path) -> None:
    words = ("bench", "policy", "--plan", "tiny.plan", *FAST, "--links", "adsl", "--policies", "cloud,static-best")
    status, out, err = run(*words, "--seeds", "1", "--recovery", "--json", "again.json", "--plot", "again.png")
    assert status == 0, err
    kinds = json.loads((home / "again.json").read_text())["recovery"]["kinds"]
    assert [list(kind["policies"]) for kind in kinds.values()] == [["cloud"]] * 3
    assert kinds["edge"]["policies"]["cloud"]["lost"] == pytest.approx(0.0, abs=0.5)
    assert kinds["link"]["policies"]["cloud"]["lost"] > 1
    assert (home / "again-recovery.png").read_bytes().startswith(b"\x89PNG")
    assert "written: again-recovery.png" in out and "shift and policy" in out


def test_an_error_in_another_process_is_told_as_here() -> None:
    def fail(task: int) -> int:
        raise AssertionError(task)

    with pytest.raises(MeshError, match="task 3 can not be done"):
        spread_over(2)(refuse, [3], lambda _: None)
    with pytest.raises(AssertionError):
        spread_over(1)(fail, [3], lambda _: None)


def test_results_come_in_the_order_of_the_tasks() -> None:
    told: list[int] = []
    assert spread_over(2)(abs, [-3, 2, -1], told.append) == [3, 2, 1]
    assert sorted(told) == [-3, -1, 2]


def test_a_killed_process_is_said() -> None:
    with pytest.raises(MeshError, match="was killed"):
        spread_over(2)(os._exit, [1], lambda _: None)


def test_an_interrupt_waits_for_no_run_and_leaves_no_process() -> None:
    def interrupt(_task: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spread_over(2)(pause_on_one, [0, 1], interrupt)
    assert multiprocessing.active_children() == []


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    work = [f"import pathlib, signal; pathlib.Path('{name}').touch(); signal.pause()" for name in "ab"]
    script = f"from splitmesh.cli.bench.policy_pool import spread_over\nspread_over(2)(exec, {work!r}, print)"
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path) as parent:
        while not all((tmp_path / name).exists() for name in "ab"):
            assert parent.poll() is None
            time.sleep(0.02)
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) >= 2
        parent.kill()
    assert psutil.wait_procs(children, timeout=30)[1] == []


def pause_on_one(task: int) -> None:
    if task == 1:
        signal.pause()


def refuse(task: int) -> int:
    raise SettingsError(f"task {task} can not be done", key="task")


def test_options_reach_the_run() -> None:
    document = report(
        "--links", "lan", "--policies", "local", "--seeds", "1", "--deadline", "90ms", "--edge-slowdown", "7",
        "--workers", "3",
    )  # fmt: skip
    scenario = document["scenario"]
    asked = {"deadline_ms": 90.0, "edge_slowdown": 7.0, "workers": 3, "duration_s": 4.0, "fps": 10.0}
    assert {name: scenario[name] for name in asked} == asked
    row = document["traces"]["lan"]["policies"]["local"]
    assert row["ci95"] is None and row["outcomes"]["captured"] == 40
    fast = report("--links", "lan", "--policies", "local", "--seeds", "1", "--edge-slowdown", "1")
    slow = report("--links", "lan", "--policies", "local", "--seeds", "1", "--edge-slowdown", "4")
    times = [each["traces"]["lan"]["policies"]["local"]["latency_ms"]["p50"] - 5.0 for each in (fast, slow)]
    assert times[1] == pytest.approx(4 * times[0], rel=1e-3)


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (["--plan", "no.plan"], 1, "no.plan is no plan"),
        (["--plan", "tiny.plan", "--traces", "nowhere"], 2, "no folder nowhere of link traces"),
        (["--plan", "tiny.plan", "--traces", "empty"], 2, "empty holds no link trace"),
        (["--plan", "tiny.plan", "--traces", "broken"], 2, "odd.up"),
        (["--plan", "tiny.plan", "--links", "lte,nolink"], 2, "no link is called 'nolink'"),
        (["--plan", "tiny.plan", "--policies", "adaptive,best"], 2, "unknown policy 'best'"),
        (["--plan", "tiny.plan", "--policies", "static:frame/gif-3"], 2, "no operating point 'static:frame/gif-3'"),
        (["--plan", "tiny.plan", "--policies", " ,"], 2, "needs a policy"),
        (["--plan", "tiny.plan", "--edge-slowdown", "4,fast"], 2, "must be numbers"),
        (["--plan", "tiny.plan", "--edge-slowdown", ","], 2, "must be numbers"),
        (["--plan", "tiny.plan", "--policies", "static-best", "--recovery"], 2, "none of these can recover"),
        (["--plan", "tiny.plan", "--duration", "soon"], 2, "must be a duration"),
        (["--plan", "tiny.plan", "--deadline", "1ms"], 2, "prepare_ms must be shorter"),
        (["--plan", "tiny.plan", "--plot", "out.txt"], 1, "no format of pictures"),
    ],
)
def test_what_can_not_be_compared_is_refused_with_the_reason(
    home: Path, words: list[str], status: int, complaint: str
) -> None:
    (home / "empty").mkdir(exist_ok=True)
    (home / "broken").mkdir(exist_ok=True)
    (home / "broken" / "odd.up").write_text("12\nsoon\n")
    found, _, err = run("bench", "policy", *words, *(() if "--duration" in words else FAST))
    assert complaint in err and "Traceback" not in err
    assert found == status
