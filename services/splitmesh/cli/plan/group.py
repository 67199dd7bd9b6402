"""Owns how `splitmesh plan MODEL` and `splitmesh plan show DIR` are told apart, and the help that explains both."""

from __future__ import annotations

from typing import Any

import click

_MODEL = "MODEL"


class BuildCommand(click.Command):
    """What `splitmesh plan MODEL` runs. It has no name of its own: in messages it is called as it is typed."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[OPTIONS]"]


class PlanGroup(click.Group):
    """A group in which anything that is no subcommand, options included, belongs to `build`.

    A model in a file that is called like a subcommand is given with its path: ./show.
    """

    def __init__(self, *arguments: Any, build: click.Command, **options: Any) -> None:
        settings = {"ignore_unknown_options": True, **options.pop("context_settings", {})}
        super().__init__(*arguments, context_settings=settings, **options)
        self._build = build

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] in self.commands:
            return super().resolve_command(ctx, args)
        return _MODEL, self._build, args

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, f"{_MODEL} [OPTIONS]")
        formatter.write_usage(ctx.command_path, f"{'|'.join(self.commands)} DIR [OPTIONS]", prefix="       ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of `plan MODEL`, then the subcommands."""
        self._build.format_options(click.Context(self._build, info_name=_MODEL, parent=ctx), formatter)
        self.format_commands(ctx, formatter)
