"""Owns `meshload merge` and `meshload diff`: what was measured in parts becomes one, and two runs are told apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from meshload import text
from meshload.cli.run import check_writable
from meshload.difference import compare, table
from meshload.errors import LoadError
from meshload.outcome import total
from meshload.results import document_of, read_outcome

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("files", nargs=-1, required=True, type=_FILE)
@click.option("-o", "--output", type=_FILE, metavar="FILE", help="Write all figures there.")
def merge(files: tuple[Path, ...], output: Path | None) -> None:
    """Add up results that generators on several machines measured at the same time.

    FILES are what --json wrote. Histograms are added, so that quantiles are those of all requests together.

    \b
    Examples:
      meshload merge one.json two.json -o both.json
    """
    if output:
        check_writable(output)
    read = [read_outcome(file) for file in files]
    specs = [spec for spec, _ in read]
    first = specs[0]
    if any((spec.closed, spec.url) != (first.closed, first.url) for spec in specs):
        raise LoadError("these runs are not of one kind on one target: they don't add up")
    length = first.measured_s
    if any(abs(spec.measured_s - length) > 1e-6 for spec in specs):
        raise LoadError("these runs are not of one length: they don't add up")
    stages: Any = first.stages
    if not first.closed and not first.edges:
        rate = sum(spec.asked_rps or 0.0 for spec in specs)
        stages = ((length, rate, rate),)
    spec = replace(
        first,
        stages=stages,
        edges=sum(spec.edges for spec in specs),
        processes=sum(spec.processes for spec in specs),
        in_flight=sum(spec.in_flight for spec in specs),
    )
    figures = document_of(spec, total([outcome for _, outcome in read]))
    if output:
        output.write_text(json.dumps(figures) + "\n", encoding="utf-8")
    click.echo(text.report(figures))


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("before", type=_FILE)
@click.argument("after", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--fail-if-worse", is_flag=True, help="Exit with 3 if any figure is significantly worse.")
def diff(before: Path, after: Path, as_json: bool, fail_if_worse: bool) -> int:
    """Say whether run AFTER (B) differs from run BEFORE (A), and whether that can be chance.

    Each figure has the 95 % interval of its change, by a moving-block bootstrap over the seconds of both runs.
    Two runs on a machine with other work differ more than seconds within them show: repeat them.

    \b
    Examples:
      meshload diff before.json after.json
      meshload diff main.json branch.json --fail-if-worse
    """
    found = compare(read_outcome(before)[1], read_outcome(after)[1])
    if as_json:
        rows = [
            {"name": d.name, "unit": d.unit, "a": d.before, "b": d.after, "low": d.low, "high": d.high,
             "verdict": d.verdict}
            for d in found
        ]  # fmt: skip
        click.echo(json.dumps(rows))
    else:
        click.echo(f"A {before}\nB {after}\n")
        click.echo(table(found))
    return 3 if fail_if_worse and any(d.verdict == "worse" for d in found) else 0
