"""Owns a wall clock that can jump under running processes. The machine's own clock is never touched.

A small library (`wall_clock.c`) is built once and preloaded; it adds what a shared file says to every reading of the
wall clock. Monotonic clocks stay as they are, as they do when an administrator or NTP sets the time.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
import sys
from pathlib import Path

_SOURCE = Path(__file__).with_name("wall_clock.c")
_NS = struct.Struct("=q")


class WallClock:
    """Shift of the wall clock of every process that is started with `environment`; 0 at first."""

    def __init__(self, library: Path, shift_file: Path) -> None:
        shift_file.write_bytes(_NS.pack(0))
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK_SHIFT": str(shift_file)}
        with shift_file.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), _NS.size)

    @property
    def shift_s(self) -> float:
        shift_ns: int = _NS.unpack(self._page[: _NS.size])[0]
        return shift_ns / 1e9

    def jump_to(self, shift_s: float) -> None:
        """From now on the wall clock is `shift_s` ahead of (below 0: behind) the machine's."""
        self._page[: _NS.size] = _NS.pack(round(shift_s * 1e9))

    def close(self) -> None:
        self._page.close()


def build_wall_clock(folder: Path) -> WallClock | None:
    """None where no library can be preloaded: elsewhere than on Linux, or without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        return None
    library = folder / "wall_clock.so"
    command = [compiler, "-shared", "-fPIC", "-O2", str(_SOURCE), "-o", str(library), "-ldl"]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        return None
    return WallClock(library, folder / "wall_clock.shift")
