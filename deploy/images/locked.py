"""Owns picking packages out of a lock: `locked.py LOCK NAME…` prints their blocks, versions and hashes."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def blocks(lock: str) -> dict[str, str]:
    """Name of a package → its lines in `lock`; a name that stands there for several Pythons has all of them."""
    found: dict[str, str] = {}
    for block in re.findall(r"^[a-z0-9].*\n(?:[ ].*\n?)*", lock, re.MULTILINE):
        name = re.split(r"[=\[ ;]", block, maxsplit=1)[0]
        found[name] = found.get(name, "") + block
    return found


def main() -> int:
    path, *names = sys.argv[1:]
    known = blocks(Path(path).read_text(encoding="utf-8"))
    if absent := [name for name in names if name not in known]:
        sys.stderr.write(f"{path} does not lock {', '.join(absent)}\n")
        return 1
    sys.stdout.write("".join(known[name] for name in names))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
