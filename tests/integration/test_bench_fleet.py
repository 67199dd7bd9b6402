"""`splitmesh bench fleet` on a small plan: table, JSON, samples; its refusals."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from splitmesh.cli import main
from splitmesh.media.clip import write_test_clip

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from plan_graphs import residual_classifier, save

FAST = ("--duration", "4s", "--fps", "5")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plan of a small classifier."""
    folder = tmp_path_factory.mktemp("home")
    save(residual_classifier(), folder / "tiny.onnx")
    write_test_clip(folder / "seen.mp4", width=96, height=96, frames=30, seed=1)
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
    status, out, err = run("bench", "fleet", "--plan", "tiny.plan", *FAST, *words, "--json", "out.json", "--quiet")
    assert (status, out) == (0, ""), err
    document: dict[str, Any] = json.loads(Path("out.json").read_text())
    return document


def test_a_fleet_is_told_edge_by_edge_and_worker_by_worker() -> None:
    document = report(
        "--edges", "6", "--per-uplink", "3", "--workers", "2", "--policy", "cloud", "--links", "lte,lan"
    )
    assert document["fleet"] == {"edges": 6, "per_uplink": 3, "sample": None}
    assert [edge["uplink"] for edge in document["edges"]] == [0, 0, 0, 1, 1, 1]
    assert len(document["workers"]) == 2
    assert document["frames"] == document["figures"]["outcomes"]["captured"] == 120
    assert document["figures"]["bytes_per_frame"] > 0 and document["us_per_frame"] > 0
    assert document["edges"][3]["latency_ms"]["p50"] < document["edges"][0]["latency_ms"]["p50"]


def test_it_repeats_but_for_what_it_cost() -> None:
    first, again = (report("--edges", "4", "--workers", "2", "--seed", "3") for _ in range(2))
    other = report("--edges", "4", "--workers", "2", "--seed", "4")
    for document in (first, again, other):
        del document["us_per_frame"]
    assert first == again
    assert first["figures"] != other["figures"]


def test_a_table_is_shown_and_says_what_stands_for_all() -> None:
    words = ("--edges", "40", "--per-uplink", "5", "--workers", "8", "--sample", "25")
    status, out, err = run("bench", "fleet", "--plan", "tiny.plan", *FAST, *words)
    assert status == 0
    assert "40 edges, adaptive: 25 stand for all" in out and "workers' utilisation (5)" in out
    assert "simulate" in err


def test_a_sample_that_does_not_fit_is_refused_before_the_work() -> None:
    status, out, err = run(
        "bench", "fleet", "--plan", "nowhere.plan", "--edges", "20", "--workers", "4", "--sample", "7"
    )
    assert status != 0 and out == ""
    assert "7 of 20 edges" in err and "no sample" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--policy", "nope"), "unknown policy 'nope'"),
        (("--links", "nolink"), "nolink"),
        (("--links", ","), "needs a link"),
        (("--edges", "0"), "--edges"),
        (("--deadline", "soon"), "--deadline"),
    ],
)
def test_what_can_not_be_is_said(words: tuple[str, ...], said: str) -> None:
    status, out, err = run("bench", "fleet", "--plan", "tiny.plan", *FAST, *words)
    assert status != 0 and out == ""
    assert said in err
