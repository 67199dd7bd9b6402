"""The report on plans of real models: its list holds together, a run is measured and stopped, every outcome shows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tools.models_report import Row, run_measured, table
from tools.zoo import subjects
from tools.zoo_derive import RECIPES

PLANNED: Row = {
    "name": "one", "family": "a|b", "source": "PyPI x==1, y", "licence": "MIT", "notes": "", "status": "planned",
    "kind": "yolo", "size_bytes": 12_345_678, "made_bytes": 0, "nodes": 10, "frontiers": 7, "cuts": ["n1", "n2"],
    "parity_max_rel": 2e-6, "batchable": True, "batchable_cuts": 2,
    "split": {"point": "split/n1/klt-1", "bytes_mean": 1234.5, "fidelity": 0.99},
    "picture": None, "seconds": 61.0, "peak_rss_bytes": 700_000_000, "allowed_rss_bytes": 1_037_000_000,
}  # fmt: skip


def test_the_list_names_each_model_once_and_one_way_to_get_it() -> None:
    listed = subjects()
    names = [s.name for s in listed]
    assert len(set(names)) == len(names)
    for s in listed:
        ways = [s.origin, s.installed, s.made_of, s.builtin, s.path]
        assert sum(bool(way) for way in ways) == 1, s.name
        if s.made_of:
            assert s.made_of in names and s.recipe in RECIPES, s.name


def test_a_run_tells_its_status_and_its_peak_memory(tmp_path: Path) -> None:
    code = "import sys; held = bytearray(300_000_000); print('said'); sys.exit(3)"
    status, seconds, peak = run_measured([sys.executable, "-c", code], tmp_path / "log", 60)
    assert status == 3
    assert seconds < 60
    assert 300_000_000 <= peak <= 600_000_000
    assert (tmp_path / "log").read_text() == "said\n"


def test_a_run_is_stopped_at_its_limit(tmp_path: Path) -> None:
    status, seconds, _ = run_measured([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log", 0.5)
    assert status is None
    assert seconds < 30


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({}, ["| one |", "| yolo | 12.3 | 10 | 7 | 2 | 2e-06 | all | 1.2 | – | 61 | 700 |", "PyPI x==1, y"]),
        ({"cuts": [], "batchable_cuts": 0, "parity_max_rel": None, "split": None}, ["| 0 | – | whole | – | – |"]),
        ({"batchable": False, "batchable_cuts": 1}, ["| 1 cuts |"]),
        ({"status": "failed", "error": "this | that"}, ["**failed**: this \\| that"]),
        ({"made_bytes": 575_000_000}, ["| 12.3 + 575 |"]),
        ({"peak_rss_bytes": 2_000_000_000}, ["| **2000** |"]),
    ],
)  # fmt: skip
def test_every_outcome_shows(change: Row, shown: list[str]) -> None:
    text = table({"models": [PLANNED | change], "machine": "x86_64, 2 cores", "onnxruntime": "1"})
    head, *rows = text.split("\n\n")[0].splitlines()
    assert {line.replace("\\|", "").count("|") for line in rows} == {head.count("|")}
    for part in shown:
        assert part.replace("| one |", "| `one` |") in text
