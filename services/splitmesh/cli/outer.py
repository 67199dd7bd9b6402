"""Owns what a console script does around its command: how errors look, and the exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import click

from splitmesh.errors import MeshError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def exit_status(
    command: Callable[[], object],
    *,
    is_usage: Callable[[MeshError], bool],
    missing: Callable[[ModuleNotFoundError], MeshError | ModuleNotFoundError],
) -> int:
    """Call `command`, show what it raises, and return its exit status: what it returns if that is a number, else 0.

    command: runs click with `standalone_mode=False`. is_usage: whether an error is one of usage, EXIT_USAGE, and not
    EXIT_FAILED. missing: the error to show for a module that is not installed, or the one it got, which is raised.
    """
    try:
        result = command()
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
        return _complain(exc, is_usage)
    except ModuleNotFoundError as exc:
        wanted = missing(exc)
        if isinstance(wanted, MeshError):
            return _complain(wanted, is_usage)
        raise
    return result if isinstance(result, int) else 0


def _complain(exc: MeshError, is_usage: Callable[[MeshError], bool]) -> int:
    """What is wrong in one line, and perhaps one of advice."""
    click.echo(click.style("error: ", fg="red", bold=True) + exc.message, err=True)
    if exc.advice:
        click.echo(f"  {exc.advice}", err=True)
    return EXIT_USAGE if is_usage(exc) else EXIT_FAILED
