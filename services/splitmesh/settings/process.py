"""Owns what a starting process does to itself and tells its parent: CPU pinning, the ready file."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from splitmesh.errors import OutputError, SettingsError


def pin_process(cpus: Sequence[int]) -> None:
    """Pin this process and all its later threads to `cpus`; none: leave it. Raises SettingsError naming `cpu`."""
    if not cpus:
        return
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as exc:
        allowed = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        raise SettingsError(
            f"can't pin to CPU {','.join(map(str, cpus))}: {exc.strerror}", key="cpu", advice=f"there are {allowed}"
        ) from exc
    except AttributeError as exc:
        raise SettingsError("this system can't pin a process to CPUs", key="cpu", advice="leave it out") from exc


def settle_memory() -> None:
    """Call once all that stays is built: later collections then leave it alone.

    A full collection over an edge's nearly 10^5 lasting objects was measured to stop every thread for 26 ms, in the
    middle of a deadline. What is left to collect is little, and is collected less often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def announce_ready(path: Path | None, **facts: Any) -> None:
    """Write `facts` as one JSON object to `path`, whole or not at all; None: tell nobody. Raises OutputError."""
    if path is None:
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(json.dumps({"ready": True, **facts}) + "\n")
        draft.replace(path)
    except OSError as exc:
        raise OutputError(f"can't write {path}: {exc.strerror}", path=str(path), advice="check ready_json") from exc
