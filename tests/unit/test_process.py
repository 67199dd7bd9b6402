"""What a process does to itself. Each case runs in a process of its own: the effects would outlive the test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_settled_memory_is_no_longer_looked_at_by_the_collector() -> None:
    done = python(
        "import gc; from splitmesh.settings.process import settle_memory; before = len(gc.get_objects());"
        "settle_memory(); print(gc.get_freeze_count() > before / 2, len(gc.get_objects()) < before / 10)"
    )
    assert done.stdout.split() == ["True", "True"], done.stderr


def test_pinning_to_a_cpu_that_is_not_there_names_the_setting() -> None:
    done = python(
        "from splitmesh.errors import SettingsError\n"
        "from splitmesh.settings.process import pin_process\n"
        "try:\n    pin_process([4095])\n"
        "except SettingsError as exc:\n    print(exc.key, exc.advice)"
    )
    assert done.stdout.startswith("cpu there are "), done.stderr


def test_the_ready_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "ready.json"
    done = python(
        "from pathlib import Path; from splitmesh.settings.process import announce_ready;"
        f"announce_ready(Path({str(target)!r}), name='e', pid=1)"
    )
    assert done.returncode == 0, done.stderr
    assert target.read_text() == '{"ready": true, "name": "e", "pid": 1}\n'
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("path", ["/nowhere/at/all/ready.json"])
def test_a_ready_file_that_cannot_be_written_is_named(path: str) -> None:
    done = python(
        "from pathlib import Path\nfrom splitmesh.errors import OutputError\n"
        "from splitmesh.settings.process import announce_ready\n"
        f"try:\n    announce_ready(Path({path!r}))\n"
        "except OutputError as exc:\n    print(exc.path)"
    )
    assert done.stdout.strip() == path, done.stderr
