"""Owns the watch over fuzzing processes: starts them, counts, names crashes and hangs, keeps the guilty payloads."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tools.fuzz_child import SLOT, SLOT_BYTES

ROOT = Path(__file__).resolve().parent.parent
HANG_S = 20.0
"""Without a finished payload for this long, a process is ended: its own measure of slowness, processor time, can't
see a decoder that waits."""
START_S = 120.0
MAX_KEPT = 20
MAX_ENDED = 3
"""Crashes and hangs after which a target is given up; one that never began is given up at once."""


@dataclass
class Tally:
    """What became of the payloads of one target."""

    cases: int = 0
    refused: int = 0
    decoded: int = 0
    blocks: int = 0
    """Finished or given up: where another run goes on."""
    slowest_s: float = 0.0
    grown_bytes: int = 0
    seconds: float = 0.0
    findings: list[dict[str, str]] = field(default_factory=list)

    def add(self, said: dict[str, Any]) -> None:
        self.cases += said["cases"]
        self.refused += said["refused"]
        self.decoded += said["decoded"]
        self.blocks = said["block"] + 1
        self.slowest_s = max(self.slowest_s, said["slowest_s"])
        self.grown_bytes = max(self.grown_bytes, said["grown_bytes"])


def fuzz(
    path: str,
    folder: Path,
    *,
    cases: int,
    seed: int,
    seconds: float | None = None,
    tally: Tally | None = None,
    said: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Decode `cases` mutated payloads of the target `module:function`, going on from `tally`.

    Guilty payloads are left in `folder`. seconds: stop after about so many. `said` hears of every block.
    """
    tally = tally or Tally()
    began_s, before_s = time.monotonic(), tally.seconds
    until_s = began_s + seconds if seconds is not None else float("inf")
    ended = 0
    while tally.cases < cases and time.monotonic() < until_s and ended < MAX_ENDED:
        with _Child(path, seed, tally.blocks, cases - tally.cases, folder) as child:
            for line in child.lines(until_s):
                for fault in line["findings"]:
                    keep(tally, fault, folder)
                tally.add(line)
                tally.seconds = before_s + time.monotonic() - began_s
                said(tally)
            fault, began = child.fault(), child.began
        if fault is not None:
            keep(tally, fault, folder)
            tally.blocks += 1
            ended += 1 if began else MAX_ENDED
    return tally


def keep(tally: Tally, fault: dict[str, str], folder: Path) -> None:
    """Count a fault once per kind and place, and leave its payload and story in `folder`."""
    if len(tally.findings) >= MAX_KEPT or any(fault["place"] == known["place"] for known in tally.findings):
        return
    payload = bytes.fromhex(fault["payload"])
    name = f"{fault['kind']}-{hashlib.sha256(payload).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.bin").write_bytes(payload)
    (folder / f"{name}.txt").write_text(f"{fault['place']}\n\n{fault['detail']}")
    tally.findings.append({"kind": fault["kind"], "place": fault["place"], "payload": str(folder / f"{name}.bin")})


class _Child:
    """One fuzzing process and the file it shares with this one."""

    def __init__(self, path: str, seed: int, first: int, cases: int, folder: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fuzz-")
        self._shared = Path(self._folder.name) / "payload"
        self._shared.write_bytes(bytes(SLOT_BYTES))
        self._errors = Path(self._folder.name) / "stderr"
        self._hung = False
        self._stopped = False
        command = [sys.executable, "-m", "tools.fuzz_child", path, str(self._shared), f"--seed={seed}",
                   f"--first={first}", f"--cases={cases}"]  # fmt: skip
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX", "BLOSC_NTHREADS"), "1")
        paths = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT,
                env={**os.environ, **single, "PYTHONPATH": paths, "PYTHONFAULTHANDLER": "1"},
            )  # fmt: skip
        self._said: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._folder.cleanup()

    def _read(self, output: IO[str]) -> None:
        with output:
            for line in output:
                self._said.put(line)
        self._said.put(None)

    @property
    def began(self) -> int:
        """Payloads begun."""
        return self._slot()[1]

    def lines(self, until_s: float) -> Iterator[dict[str, Any]]:
        """What the process says, block by block, until it ends, hangs or time is up."""
        began, moved_s = 0, time.monotonic() + START_S - HANG_S
        while True:
            try:
                line = self._said.get(timeout=0.2)
            except queue.Empty:
                line = ""
            if line is None:
                return
            if line:
                yield json.loads(line)
            now_s = time.monotonic()
            if now_s > until_s:
                self._stopped = True
                return
            if self.began != began:
                began, moved_s = self.began, now_s
            elif now_s - moved_s > HANG_S:
                self._hung = True
                return

    def fault(self) -> dict[str, str] | None:
        """A hang or crash; None if the process did what it was told."""
        if self._stopped:
            return None
        if self._hung:
            return self._fault("hang", f"no payload finished for {HANG_S:.0f} s", "hang")
        status = self._process.wait()
        if status == 0:
            return None
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        told = self._errors.read_text(errors="replace")[-4000:]
        return self._fault("crash", f"the process ended with {name}\n{told}", f"crash {name} {_where(told)}")

    def _fault(self, kind: str, detail: str, place: str) -> dict[str, str]:
        _, _, count = self._slot()
        with self._shared.open("rb") as file:
            file.seek(SLOT.size)
            return {"kind": kind, "payload": file.read(count).hex(), "detail": detail, "place": place}

    def _slot(self) -> tuple[int, int, int]:
        with self._shared.open("rb") as file:
            block, begun, count = SLOT.unpack(file.read(SLOT.size))
        return block, begun, count


def _where(told: str) -> str:
    """The innermost line of Python that the fault handler named."""
    return next((line.strip() for line in told.splitlines() if line.lstrip().startswith("File ")), "")
