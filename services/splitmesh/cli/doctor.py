"""Owns `splitmesh doctor`: runs the checks and shows what works here. Leaves nothing but the cache folder."""

from __future__ import annotations

import json

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from splitmesh.cli.checks import CHECKS, Finding, Verdict, run_checks

_STYLE = {Verdict.OK: "green", Verdict.LIMITED: "yellow", Verdict.BROKEN: "red"}
_MARK = {Verdict.OK: "ok", Verdict.LIMITED: "limited", Verdict.BROKEN: "BROKEN"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def doctor(as_json: bool) -> int:
    """Check what works on this machine: runtimes, decoders, broker, clocks, disk.

    Exit status 1 if something essential is broken.

    \b
    Examples:
      splitmesh doctor
      splitmesh doctor --json | jq '.findings[] | select(.verdict != "ok")'
    """
    findings = run_checks(CHECKS)
    broken = any(each.verdict is Verdict.BROKEN and each.essential for each in findings)
    if as_json:
        click.echo(json.dumps({"healthy": not broken, "findings": [each.to_json() for each in findings]}, indent=2))
    else:
        console = Console()
        console.print(_table(findings))
        verdict = Text("something essential is broken", "bold red") if broken else Text("ready to run", "bold green")
        console.print(verdict)
    return int(broken)


def _table(findings: list[Finding]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", expand=True)
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found", ratio=1, overflow="fold")
    for each in findings:
        text = Text(each.detail)
        if each.advice:
            text.append(f"\n→ {each.advice}", style="italic")
        table.add_row(each.name, Text(_MARK[each.verdict], style=_STYLE[each.verdict]), text)
    return table
