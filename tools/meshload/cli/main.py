"""Owns the entry point `meshload`: which command a line means, how errors look, and the exit status.

A line whose first word is no command is a run: `meshload [OPTIONS] TARGET`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from meshload.errors import LoadError
from splitmesh.errors import MeshError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_SLO = 3
EXIT_LOST = 4
EXIT_INTERRUPTED = 130

COMMANDS = {
    "run": "meshload.cli.run:run",
    "find": "meshload.cli.find:find",
    "merge": "meshload.cli.compare:merge",
    "diff": "meshload.cli.compare:diff",
}


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    name = words.pop(0) if words and words[0] in COMMANDS else "run"
    shown = "meshload" if name == "run" else f"meshload {name}"
    try:
        module, _, attribute = COMMANDS[name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        result = command.main(args=words, prog_name=shown, standalone_mode=False)
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except MeshError as exc:
        return complain(exc)
    except ModuleNotFoundError as exc:
        return complain(
            MeshError(f"this needs {exc.name}, which is not installed", advice="pip install 'splitmesh[load]'")
        )
    return result if isinstance(result, int) else 0


def complain(exc: MeshError) -> int:
    """Say what is wrong, in one line and perhaps one of advice."""
    click.echo(click.style("error: ", fg="red", bold=True) + exc.message, err=True)
    if exc.advice:
        click.echo(f"  {exc.advice}", err=True)
    return EXIT_USAGE if type(exc) is LoadError else EXIT_FAILED


def main() -> None:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # our arrays are small; threads would take cores from the load
    sys.exit(run())


if __name__ == "__main__":
    main()
