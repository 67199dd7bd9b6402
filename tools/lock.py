"""Writes the locks under requirements/: exact versions with hashes, for every platform, free of any index address."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

LOCKS: dict[str, tuple[str, ...]] = {
    "dev": ("dev",),
    "edge": ("edge",),
    "gateway": ("gateway",),
    "deploy": ("deploy",),
}
"""Lock name: extras of pyproject.toml. `dev` comes first; the others take its versions."""

HEADER = """\
# Locked by `make lock` from pyproject.toml ({extras}). Do not edit.
"""


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--upgrade", action="store_true", help="newest allowed versions, not the locked ones")
    upgrade: bool = arguments.parse_args().upgrade
    for name, extras in LOCKS.items():
        target = ROOT / "requirements" / f"{name}.txt"
        command = [
            str(Path(sys.executable).with_name("uv")), "pip", "compile", "pyproject.toml", "--quiet",
            "--universal", "--python-version", "3.11", "--generate-hashes",
            "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links",
            "--output-file", str(target),
        ]  # fmt: skip
        for extra in extras:
            command += ["--extra", extra]
        if name != "dev":
            command += ["--constraint", "requirements/dev.txt"]
        if upgrade:
            command.append("--upgrade")
        if subprocess.run(command, cwd=ROOT).returncode:
            print(f"{target.relative_to(ROOT)} was not made: see uv's message above", file=sys.stderr)
            return 1
        locked = target.read_text()
        target.write_text(HEADER.format(extras=f"extra {', '.join(extras)}") + locked)
        print(f"{target.relative_to(ROOT)}: {sum('==' in line for line in locked.splitlines())} packages")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
