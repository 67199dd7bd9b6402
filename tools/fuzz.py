"""Fuzzes every decoder of bytes from other processes: mutated payloads, each decoder in a process of its own.

Usage: python -m tools.fuzz [--count 1000000] [--only u8lz4,jpeg] [--seconds 600] [--more] [--seed 1] [--jobs 2]

Of each payload it is asked that nothing but WireError comes out, within a second, without allocating more than the
target's cap, and that what is decoded has the right shape and finite values. A crash or hang of native code is seen
from outside. Guilty payloads are left in out/fuzz/TARGET/, the counts in out/fuzz/summary.json. Exit status 1 when a
fault was found, 3 when time ran out before the count was reached. --more goes on where the last run stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tools.fuzz_run import ROOT, Tally, fuzz

from splitmesh.codec.planes.kernel import COMPILED

TARGETS: dict[str, str] = {
    name: f"tools.{module}:{name}"
    for module, names in (
        ("fuzz_targets", ("parse_container", "u8lz4", "u8zstd", "u8zstd_4bit", "jpeg", "webp", "h264")),
        (
            "fuzz_tables",
            ("planes", "planes_pure", "plane_model", "compact_table", "compact", "temporal", "video", "any_codec"),
        ),
        ("fuzz_wire", ("requests", "infer_reply", "cancel", "heartbeat", "table_offer", "table_reply")),
        ("fuzz_control", ("edge_command", "edge_report", "frame_reports", "edge_reply", "spans_reply")),
    )
    for name in names
}
"""Name → module:function of its factory."""
if COMPILED is None:
    del TARGETS["planes"]
FAULTS, TOO_FEW = 1, 3


class Board:
    """The counts of some targets: shows them as they grow, keeps them in a file beside those of the others."""

    def __init__(self, names: list[str], count: int, seed: int, file: Path, *, more: bool) -> None:
        self._count, self._seed, self._file = count, seed, file
        self._lock = threading.Lock()
        earlier = self._kept()
        if more and earlier["seed"] != seed:
            raise SystemExit(f"{file} is of seed {earlier['seed']}; name it with --seed to go on")
        known = earlier["targets"] if more else {}
        self.tallies = {name: Tally(**known[name]) if name in known else Tally() for name in names}

    def _kept(self) -> dict[str, Any]:
        kept: dict[str, Any] = {"seed": self._seed, "targets": {}}
        if self._file.exists():
            kept = json.loads(self._file.read_text())
        return kept

    def said(self, name: str, tally: Tally) -> None:
        """A block of `name` is done."""
        with self._lock:
            self.tallies[name] = tally
            self.save()
            if sys.stdout.isatty():
                print(f"\r\033[K{self.row(name)}", end="", flush=True)

    def save(self) -> None:
        """Into the file, whose other targets stay as another run may just have left them."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        kept = self._kept()
        others = kept["targets"] if kept["seed"] == self._seed else {}
        rows = {**others, **{name: asdict(tally) for name, tally in self.tallies.items()}}
        draft = self._file.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps({"seed": self._seed, "targets": dict(sorted(rows.items()))}, indent=1))
        draft.replace(self._file)

    def row(self, name: str) -> str:
        """One line on `name`."""
        t = self.tallies[name]
        rate = t.cases / t.seconds if t.seconds else 0.0
        return (
            f"{name:16} {t.cases:>9,} of {self._count:,}: {t.refused:,} refused, {t.decoded:,} decoded, "
            f"{len(t.findings)} faults; slowest {t.slowest_s * 1e3:.0f} ms, memory +{t.grown_bytes >> 20} MiB, "
            f"{rate:,.0f}/s"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000, help="payloads per decoder")
    parser.add_argument("--seconds", type=float, help="stop after about so many, shared by the decoders")
    parser.add_argument("--only", default=",".join(TARGETS), help="decoders, by comma")
    parser.add_argument("--more", action="store_true", help="go on where the last run stopped")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="decoders at a time")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "fuzz")
    args = parser.parse_args()
    names: list[str] = args.only.split(",")
    if unknown := set(names) - TARGETS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(TARGETS)}")
    board = Board(names, args.count, args.seed, args.out / "summary.json", more=args.more)
    open_names = [name for name in names if board.tallies[name].cases < args.count]
    share = args.seconds * min(args.jobs, len(open_names)) / len(open_names) if args.seconds and open_names else None

    def work(name: str) -> None:
        fuzz(TARGETS[name], args.out / name, cases=args.count, seed=args.seed, seconds=share,
             tally=board.tallies[name], said=lambda tally: board.said(name, tally))  # fmt: skip
        print(f"\r\033[K{board.row(name)}" if sys.stdout.isatty() else board.row(name), flush=True)

    with ThreadPoolExecutor(args.jobs) as pool:
        for future in [pool.submit(work, name) for name in open_names]:
            future.result()
    board.save()
    return verdict(board, names, args.count)


def verdict(board: Board, names: list[str], count: int) -> int:
    """Say what was found; the exit status."""
    for name in names:
        for fault in board.tallies[name].findings:
            print(f"FAULT {name}: {fault['kind']}, {fault['place']}: {fault['payload']}")
    if any(board.tallies[name].findings for name in names):
        return FAULTS
    return 0 if all(board.tallies[name].cases >= count for name in names) else TOO_FEW


if __name__ == "__main__":
    sys.exit(main())
