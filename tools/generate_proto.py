"""Generates the Python code of proto/ into services/, or checks that the committed code is what it would generate."""

from __future__ import annotations

import argparse
import difflib
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "proto"
TARGET = ROOT / "services"
SUFFIXES = ("_pb2.py", "_pb2.pyi")


def generate(target: Path) -> list[Path]:
    """Write the code of every .proto under `target`; paths relative to it. Raises SystemExit when protoc fails."""
    sources = sorted(SOURCE.rglob("*.proto"))
    plugin = Path(sys.executable).with_name("protoc-gen-mypy")
    arguments = [
        "protoc",
        f"--proto_path={SOURCE}",
        f"--proto_path={files('grpc_tools') / '_proto'}",
        f"--plugin=protoc-gen-mypy={plugin}",
        f"--python_out={target}",
        f"--mypy_out=quiet:{target}",
        *map(str, sources),
    ]
    if protoc.main(arguments):
        raise SystemExit("protoc refused the definitions above")
    return sorted(p.relative_to(target) for p in target.rglob("*_pb2.py*") if p.name.endswith(SUFFIXES))


def differences(fresh: Path, generated: list[Path]) -> list[str]:
    """Unified diffs between the committed code and `generated` under `fresh`, stale files included."""
    lines: list[str] = []
    committed = {
        p.relative_to(TARGET) for p in (TARGET / "splitmesh").rglob("*_pb2.py*") if p.suffix in (".py", ".pyi")
    }
    for path in sorted(committed | set(generated)):
        old = (TARGET / path).read_text() if path in committed else ""
        new = (fresh / path).read_text() if path in generated else ""
        lines += difflib.unified_diff(
            old.splitlines(), new.splitlines(), f"committed/{path}", f"generated/{path}", lineterm="", n=1
        )
    return lines


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="write nothing; fail if the committed code differs")
    if not arguments.parse_args().check:
        for path in generate(TARGET):
            print(f"services/{path}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        lines = differences(fresh, generate(fresh))
    if lines:
        print("\n".join(lines[:60]))
        print("the committed code does not follow from proto/: run `make proto-write`", file=sys.stderr)
        return 1
    print("generated code is up to date")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
