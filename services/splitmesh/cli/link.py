"""Owns `splitmesh link`: the command that runs the emulated uplink, and `show`, which tells what a link is like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from splitmesh.cli.run import service_command
from splitmesh.errors import OutputError
from splitmesh.settings.model import LinkSettings


def _start(settings: LinkSettings) -> int:
    from splitmesh.lab.link.command import run

    return run(settings)


_run = service_command(
    LinkSettings,
    _start,
    """Relay TCP connections through an emulated uplink: bandwidth from a trace or preset, delay, outages. `splitmesh
    link show` tells what a trace or preset is like.

    \b
    Examples:
      splitmesh link --listen 127.0.0.1:4333 --to 127.0.0.1:4222 --link lte
      splitmesh link --link commute.up --outage 5s@20s,2s@40s/cut
      splitmesh link show lte
    """,
)


@click.group(invoke_without_command=True, params=_run.params, help=_run.help)
@click.pass_context
def link(context: click.Context, /, **values: Any) -> int:
    if context.invoked_subcommand is not None or _run.callback is None:
        return 0
    status: int = _run.callback(**values)
    return status


@link.command()
@click.argument("name", metavar="TRACE|PRESET")
@click.option(
    "--duration-s", type=click.FloatRange(1, 86_400), default=60.0, help="Length that a preset is laid out for."
)
@click.option("--json", "as_json", is_flag=True, help="Print figures, and rate, delay and outages every 250 ms.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="OUT.svg",
    help="Draw rate and delay over time.",
)
@click.option(
    "--export",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write it as .toml, .csv, .json or .up.",
)
def show(name: str, duration_s: float, as_json: bool, plot: Path | None, export: Path | None) -> int:
    """Tell what a link is like: its rate over time, rates that it keeps, dead seconds, round trips.

    \b
    Examples:
      splitmesh link show commute.up
      splitmesh link show lte-driving:7 --plot driving.svg
      splitmesh link show 5g-mmwave --duration-s 600 --export blocked.toml
    """
    from splitmesh.provision.link.export import export_trace
    from splitmesh.provision.link.look import look
    from splitmesh.provision.link.picture import link_svg
    from splitmesh.provision.link.presets import load_link

    trace = load_link(name, duration_s=duration_s)
    if export:
        _write(export, export_trace(trace, export.name))
    if plot:
        _write(plot, link_svg(trace))
    seen = look(trace)
    if as_json:
        shown = {"link": trace.name, "summary": trace.describe(), "look": seen.to_json(), "rows": trace.to_rows()}
        click.echo(json.dumps(shown))
    else:
        click.echo(f"{trace.describe()}\n{seen.text()}")
    return 0


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise OutputError(f"{path} can't be written: {exc.strerror}", path=str(path)) from exc
