"""Owns the entry point `splitmesh`: the list of commands, and loading one only when it is used."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click

from splitmesh.cli.outer import exit_status
from splitmesh.errors import MeshError, SettingsError


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a command lives, and what the list of commands says of it (so that listing imports nothing)."""

    target: str
    group: str
    summary: str


COMMANDS: dict[str, _Entry] = {
    "lab": _Entry("splitmesh.cli.run:lab", "Run", "The whole mesh on this machine, with a report"),
    "edge": _Entry(
        "splitmesh.cli.run:edge", "Run", "Take frames from a source, decide per frame where they are inferred"
    ),
    "agent": _Entry(
        "splitmesh.cli.run:agent", "Run", "An edge for each camera of a box, started and stopped on demand"
    ),
    "cloud": _Entry("splitmesh.cli.run:cloud", "Run", "A worker that runs tails and whole models for edges"),
    "gateway": _Entry("splitmesh.cli.gateway:gateway", "Run", "The front door: gRPC for programs, a page for people"),
    "link": _Entry("splitmesh.cli.link:link", "Run", "A TCP relay that behaves like a real uplink"),
    "models": _Entry("splitmesh.cli.models:models", "Prepare", "List, fetch and inspect models"),
    "plan": _Entry("splitmesh.cli.plan.command:plan", "Prepare", "Cut, profile and calibrate a model"),
    "bench": _Entry("splitmesh.cli.bench.command:bench", "Prepare", "Compare codecs on footage, policies over links"),
    "why": _Entry("splitmesh.cli.why:why", "Ask", "The story of one frame: decision, prediction, spans"),
    "config": _Entry("splitmesh.cli.config:config", "Ask", "Every setting: its value and where it comes from"),
    "doctor": _Entry("splitmesh.cli.doctor:doctor", "Ask", "What works on this machine, and what does not"),
}

_EXTRA_OF_MODULE = {
    "av": "edge",
    "grpc": "gateway",
    "grpc_health": "gateway",
    "grpc_reflection": "gateway",
    "nats_server": "lab",
    "matplotlib": "lab",
}


class LazyCommands(click.Group):
    """A group whose members are imported when they are run or asked for help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        return load(entry.target) if entry else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for group in dict.fromkeys(entry.group for entry in COMMANDS.values()):
            rows = [(name, entry.summary) for name, entry in COMMANDS.items() if entry.group == group]
            with formatter.section(group):
                formatter.write_dl(rows)


def load(target: str) -> click.Command:
    """The command at `module:attribute`. Raises MeshError when a part that is not installed is needed."""
    module, _, attribute = target.partition(":")
    try:
        command = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as exc:
        raise missing_extra(exc) from exc
    if not isinstance(command, click.Command):
        raise TypeError(f"{target} is no command")
    return command


def missing_extra(exc: ModuleNotFoundError) -> MeshError | ModuleNotFoundError:
    """An error that says which extra to install, or `exc` itself when the module is none of an extra's."""
    extra = _EXTRA_OF_MODULE.get((exc.name or "").partition(".")[0])
    if extra is None:
        return exc
    return MeshError(f"this needs {exc.name}, which is not installed", advice=f"pip install 'splitmesh[{extra}]'")


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="splitmesh", prog_name="splitmesh")
def cli() -> None:
    """Adaptive split inference for video, edge to cloud.

    Start here:  splitmesh lab
    """


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit status: 0 done, 1 failed, 2 wrong usage or settings, 130 interrupted."""
    words = list(argv) if argv is not None else None
    return exit_status(
        lambda: cli.main(args=words, prog_name="splitmesh", standalone_mode=False),
        is_usage=lambda exc: isinstance(exc, SettingsError),
        missing=missing_extra,
    )


def main() -> None:
    # Threads of the matrix library would wait for each other in loops, on the core that a model runs on. Our matrices
    # are small; who wants more threads says so. It reads this when it is loaded, which no command has done yet.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(run())


if __name__ == "__main__":
    main()
