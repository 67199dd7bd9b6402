"""Owns the entry point `meshload`: which command a line means, and the exit statuses that only runs have.

A line whose first word is no command is a run: `meshload [OPTIONS] TARGET`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from meshload.errors import is_usage
from splitmesh.cli.outer import exit_status
from splitmesh.errors import MeshError

EXIT_SLO = 3
EXIT_LOST = 4
EXIT_DIED = 5

COMMANDS = {
    "run": "meshload.cli.run:run",
    "find": "meshload.cli.find:find",
    "merge": "meshload.cli.compare:merge",
    "diff": "meshload.cli.compare:diff",
    "record": "meshload.cli.record:record",
    "replay": "meshload.cli.replay:replay",
}


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    name = words.pop(0) if words and words[0] in COMMANDS else "run"
    return exit_status(
        lambda: _command(name).main(
            args=words, prog_name="meshload" if name == "run" else f"meshload {name}", standalone_mode=False
        ),
        is_usage=is_usage,
        missing=_missing,
    )


def _command(name: str) -> click.Command:
    module, _, attribute = COMMANDS[name].partition(":")
    command: click.Command = getattr(importlib.import_module(module), attribute)
    return command


def _missing(exc: ModuleNotFoundError) -> MeshError:
    return MeshError(f"this needs {exc.name}, which is not installed", advice="pip install 'splitmesh[load]'")


def main() -> None:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # our arrays are small; threads would take cores from the load
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # else gRPC writes a line for each connection that is lost
    sys.exit(run())


if __name__ == "__main__":
    main()
