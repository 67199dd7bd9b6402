"""Owns one fuzzing process: it makes payloads, decodes them, and says what came out. `fuzz_run` watches over it.

What it is about to decode lies in a file shared with its parent, so that a native crash or a hang can be named.
Prints one JSON line per block of payloads. A block depends on nothing but seed, target and its number.
"""

from __future__ import annotations

import argparse
import importlib
import json
import mmap
import resource
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tools.fuzz_mutate import MAX_BYTES, mutated

from splitmesh.errors import WireError

BLOCK = 1000
"""Payloads per block."""
LONGEST_S = 1.0
SLOT = struct.Struct("<QQI")
"""At the start of the shared file: block, payloads begun in this process, bytes of the payload that follow."""
SLOT_BYTES = SLOT.size + MAX_BYTES

Decode = Callable[[bytes], object]


class WrongResult(Exception):
    """A decoder returned something that it must not."""


@dataclass(frozen=True)
class Target:
    """A decoder under test."""

    seeds: Sequence[bytes]
    """Good payloads."""
    start: Callable[[], Decode]
    """A decoder in a fresh state. What it decodes may raise WireError and nothing else; raises WrongResult when a
    shape, dtype or value is wrong."""
    seal: Callable[[bytearray, Random], bytes] | None = None
    """Makes the checksums of a payload fit again."""
    cap_bytes: int = 64 << 20
    """What decoding may allocate over what the process holds when it starts."""


def load(path: str) -> Target:
    """The target that the factory `module:function` makes."""
    module, _, function = path.partition(":")
    target: Target = getattr(importlib.import_module(module), function)()
    return target


def status_bytes(field: str) -> int:
    """VmSize, VmHWM … of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) << 10
    raise KeyError(field)


class Fuzzer:
    """Runs blocks of one target."""

    def __init__(self, path: str, target: Target, seed: int, shared: Path) -> None:
        self._path, self._target, self._seed = path, target, seed
        with shared.open("r+b") as file:
            self._slot = mmap.mmap(file.fileno(), SLOT_BYTES)
        self._begun = 0

    def run(self, block: int, count: int) -> dict[str, Any]:
        """Decode `count` payloads of `block`; what became of them."""
        rng = Random(f"{self._seed}/{self._path}/{block}")
        decode = self._target.start()
        said: dict[str, Any] = {"block": block, "cases": count, "refused": 0, "decoded": 0, "slowest_s": 0.0}
        said["findings"] = findings = []
        for _ in range(count):
            payload = self._next(rng)
            self._note(block, payload)
            before_s = time.process_time()
            try:
                decode(payload)
                said["decoded"] += 1
            except WireError:
                said["refused"] += 1
            except Exception as exc:  # noqa: BLE001 - whatever else comes out is what is looked for
                findings.append(finding(_kind(exc), payload, "".join(traceback.format_exception(exc)), _place(exc)))
            spent_s = time.process_time() - before_s
            said["slowest_s"] = max(said["slowest_s"], round(spent_s, 4))
            if spent_s > LONGEST_S:
                findings.append(finding("slow", payload, f"{spent_s:.2f} s of processor time", "slow"))
        return said

    def _next(self, rng: Random) -> bytes:
        payload = mutated(self._target.seeds, rng)
        if self._target.seal is not None and rng.random() < 0.85:
            return self._target.seal(payload, rng)
        return bytes(payload)

    def _note(self, block: int, payload: bytes) -> None:
        self._begun += 1
        self._slot[: SLOT.size] = SLOT.pack(block, self._begun, len(payload))
        self._slot[SLOT.size : SLOT.size + len(payload)] = payload


def finding(kind: str, payload: bytes, detail: str, place: str) -> dict[str, str]:
    """One fault; those of the same `kind` and `place` are taken for one."""
    return {"kind": kind, "payload": payload.hex(), "detail": detail, "place": place}


def _kind(exc: Exception) -> str:
    return {"MemoryError": "memory", "WrongResult": "result"}.get(type(exc).__name__, "exception")


def _place(exc: Exception) -> str:
    last = traceback.extract_tb(exc.__traceback__)[-1]
    return f"{type(exc).__name__} at {Path(last.filename).name}:{last.lineno}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", help="module:function of the target")
    parser.add_argument("shared", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--first", type=int, required=True, help="number of the first block")
    parser.add_argument("--cases", type=int, required=True)
    args = parser.parse_args()
    warnings.simplefilter("error")
    target = load(args.path)
    for seed in target.seeds[:4]:
        target.start()(seed)
    fuzzer = Fuzzer(args.path, target, args.seed, args.shared)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    cap = status_bytes("VmSize") + target.cap_bytes
    resource.setrlimit(resource.RLIMIT_AS, (cap, cap))
    held = status_bytes("VmHWM")
    for block in range(args.first, args.first + -(-args.cases // BLOCK)):
        said = fuzzer.run(block, min(BLOCK, args.cases - (block - args.first) * BLOCK))
        said["grown_bytes"] = max(0, status_bytes("VmHWM") - held)
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
