"""Owns `splitmesh plan show` and `plan diff`: they read plans and change none."""

from __future__ import annotations

import json
from pathlib import Path

import click

from splitmesh.cli.plan.options import FOLDER, JSON
from splitmesh.cli.plan.tables import show_difference, show_plan, table_console
from splitmesh.errors import ModelError
from splitmesh.plan.bundle.draft import write_atomically
from splitmesh.plan.bundle.read import Bundle, read_bundle
from splitmesh.plan.report.diff import compare
from splitmesh.plan.report.document import document
from splitmesh.plan.report.page import render_page


@click.command("show", short_help="A plan's cuts, operating points and rejected cuts.")
@FOLDER
@JSON
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="OUT",
    help="Write the page about the plan there.",
)
@click.option(
    "--device-class", default="", metavar="NAME", help="Whose times to show; default: the first of those there are."
)
def show(folder: Path, as_json: bool, html: Path | None, device_class: str) -> None:
    """Show a plan's cuts and operating points, and check that its files are whole.

    \b
    Examples:
      splitmesh plan show site.plan
      splitmesh plan show site.plan --device-class pi5 --json | jq '.operating_points[].id'
      splitmesh plan show site.plan --html site.html
    """
    bundle = selected(read_bundle(folder), device_class)
    if html:
        write_atomically(html, render_page(bundle).encode())
    if as_json:
        click.echo(json.dumps(document(bundle), indent=2))
    else:
        show_plan(table_console(), bundle)


@click.command("diff", short_help="Two plans side by side.")
@click.argument("a", metavar="A", type=click.Path(path_type=Path, file_okay=False))
@click.argument("b", metavar="B", type=click.Path(path_type=Path, file_okay=False))
@JSON
def diff(a: Path, b: Path, as_json: bool) -> int:
    """Compare two plans: model, manifest, cuts, operating points side by side, profiles.

    Exit status 0 if they are the same, 1 if anything differs, times included; as `diff` does.

    \b
    Examples:
      splitmesh plan diff old.plan new.plan
      splitmesh plan diff old.plan new.plan --json | jq '.cuts[] | select(.state != "same")'
    """
    difference = compare(*(read_bundle(folder).select() for folder in (a, b)))
    if as_json:
        click.echo(json.dumps(difference.to_json(), indent=2))
    else:
        show_difference(table_console(), difference)
    return int(not difference.same)


def selected(bundle: Bundle, device_class: str) -> Bundle:
    """With the profile of `device_class`, "" for the first there is. Raises ModelError naming those there are."""
    if device_class and device_class not in bundle.profiles:
        known = ", ".join(sorted(bundle.profiles)) or "none"
        raise ModelError(
            f"plan {bundle.folder} has no profile of {device_class!r}, only {known}",
            advice=f"measure one there: splitmesh plan profile {bundle.folder} --device-class {device_class}",
        )
    return bundle.select(device_class=device_class or None)
