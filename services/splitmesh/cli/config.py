"""Owns `splitmesh config`: every setting with its value, its origin and its meaning; and a template file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from splitmesh.settings.keys import Key, keys_of, near
from splitmesh.settings.model import SECTIONS, Settings
from splitmesh.settings.resolve import CONFIG_VARIABLE, Given, config_path, gather, resolve, shown
from splitmesh.telemetry.logs import masked


@click.command()
@click.argument("section", required=False, metavar="[SECTION]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--template", is_flag=True, help="Print a settings file with every key, commented out.")
@click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Settings file to read."
)
def config(section: str | None, as_json: bool, template: bool, config: Path | None) -> None:
    """Show every setting: its value, where it comes from, its default and its meaning.

    A flag beats an environment variable, which beats the settings file, which beats the default.

    \b
    Examples:
      splitmesh config edge
      SPLITMESH_EDGE_DEADLINE_MS=200ms splitmesh config edge --json
      splitmesh config --template > splitmesh.toml
    """
    if section is not None and section not in SECTIONS:
        hint = near(section, SECTIONS) or f"one of {', '.join(SECTIONS)}"
        raise click.UsageError(f"no section {section!r}: {hint}")
    names = [section] if section else list(SECTIONS)
    if template:
        click.echo("\n".join(template_lines(names)))
        return
    rows = {name: section_rows(name, config) for name in names}
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    console = Console()
    path = config_path(config, os.environ)
    console.print(
        f"settings file: {path or f'none (--config, ${CONFIG_VARIABLE} or ./splitmesh.toml)'}", markup=False
    )
    for name in names:
        console.print(_table(name, rows[name]))


def section_rows(section: str, config: Path | None) -> list[dict[str, Any]]:
    """One row per setting: key, value, source, default, doc, flag, env. Raises SettingsError for a broken rule."""
    model = SECTIONS[section]
    given = gather(section, model, {}, config=config)
    keys = keys_of(model)
    values = _valid_values(section, model, keys, given, config)
    return [
        {
            "key": key.field,
            "value": shown(key, values[name]) if name in values else None,
            "source": given[name].origin if name in given else "required" if key.required else "default",
            "default": None if key.required else shown(key, key.default),
            "doc": key.doc,
            "flag": key.flag,
            "env": key.env,
        }
        for name, key in keys.items()
    ]


def template_lines(sections: list[str]) -> list[str]:
    """A settings file that changes nothing: every key with its meaning and default, commented out."""
    lines = ["# splitmesh settings. Uncomment what you change; flags and SPLITMESH_* variables win over this file."]
    for section in sections:
        lines += ["", f"[{section}]"]
        for key in keys_of(SECTIONS[section]).values():
            lines += [f"# {key.doc}", f"# {key.field} = {_toml(key)}"]
    return lines


def _valid_values(
    section: str, model: type[Settings], keys: dict[str, Key], given: dict[str, Given], config: Path | None
) -> dict[str, Any]:
    """Checked values; a required one that nobody gave is left out rather than refused: this command only shows."""
    absent = [name for name, key in keys.items() if key.required and name not in given]
    settings = resolve(section, model, dict.fromkeys(absent, "unset"), config=config).settings
    return {name: getattr(settings, name) for name in keys if name not in absent}


def _toml(key: Key) -> str:
    value = key.default
    if key.required:
        return '""  # required'
    if value is None:
        return '""  # not set'
    if isinstance(value, bool):
        return key.written(value)
    if isinstance(value, (int, float)) and not key.field.endswith(("_ms", "_s")):
        return key.written(value)
    return json.dumps(masked(key.written(value)), ensure_ascii=False)


def _table(section: str, rows: list[dict[str, Any]]) -> Table:
    title = Text(f"[{section}]", style="bold cyan")
    table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, expand=True)
    table.add_column("setting", no_wrap=True)
    for heading, ratio in (("value", 3), ("source", 3), ("default", 2), ("meaning", 5)):
        table.add_column(heading, ratio=ratio, overflow="fold")
    for row in rows:
        set_here = row["source"] not in ("default", "required")
        style = "green" if set_here else "red" if row["source"] == "required" else ""
        cells = [row["key"], row["value"] or "", row["source"], row["default"] or "", row["doc"]]
        table.add_row(*(Text(cell, style=style if i in (1, 2) else "") for i, cell in enumerate(cells)))
    return table
