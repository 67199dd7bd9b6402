"""The soak's judgement: what counts as growth and as a lost frame."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

MIB = 2**20


@pytest.fixture(scope="module")
def soak(project: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("soak_tool", project / "tools" / "soak.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def series(*mib: float) -> list[tuple[float, int]]:
    return [(float(t), int(value * MIB)) for t, value in enumerate(mib)]


@pytest.mark.parametrize(
    ("samples", "faulty"),
    [
        (series(*[50] * 100), False),
        (series(*[10 + 2 * t for t in range(30)], *[70] * 90), False),
        (series(*[200 + 0.1 * t for t in range(120)]), False),
        (series(*[100 + t for t in range(120)]), True),
        (series(*[100] * 60, *[160] * 60), True),
        (series(*[10 + 50 * t for t in range(10)]), False),
    ],
    ids=["flat", "warm-up", "slow", "leak", "jump", "too short to judge"],
)
def test_growth_after_warm_up_is_a_fault(soak: ModuleType, samples: list[tuple[float, int]], faulty: bool) -> None:
    lines, faults = soak.verdicts({("edge", 7): samples})
    assert len(lines) == 1
    assert bool(faults) is faulty


def test_a_restarted_process_is_judged_on_its_own(soak: ModuleType) -> None:
    _, faults = soak.verdicts({("cloud", 7): series(*[50] * 60), ("cloud", 9): series(*[300] * 60)})
    assert faults == []


@pytest.mark.parametrize(
    ("command", "role"),
    [
        (["/venv/bin/python", "-m", "splitmesh.cli.main", "edge", "--config", "x"], "edge"),
        (["/venv/bin/python", "-m", "splitmesh.cli.main", "cloud"], "cloud"),
        (["/venv/bin/python", "-m", "splitmesh.cli.main", "lab", "--quiet"], None),
        (["/venv/lib/nats_server/bin/nats-server", "-p", "1"], "broker"),
        ([], None),
    ],
)
def test_roles(soak: ModuleType, command: list[str], role: str | None) -> None:
    assert soak.role(command) == role


@pytest.mark.parametrize(
    ("summary", "count"),
    [
        ({"conserved": True, "faults": [], "frames": {"captured": 3, "local": 3}}, 0),
        ({"conserved": False, "faults": ["frame 2 twice"], "frames": {"captured": 3}}, 2),
        ({}, 1),
    ],
)
def test_lost_frames_are_faults(soak: ModuleType, summary: dict[str, Any], count: int) -> None:
    assert len(soak.conservation_faults(summary)) == count


def test_a_soak_without_a_lab_fails(soak: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.conclude(tmp_path, 1, {}) == 1
    shown = capsys.readouterr().out
    assert "the lab ended with status 1" in shown
    assert "no summary.json" in shown
