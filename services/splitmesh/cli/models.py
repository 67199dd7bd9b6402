"""Owns `splitmesh models`: what models there are, fetching one, and what is known of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from splitmesh.cli.progress import progress_bar
from splitmesh.models.registry import ResolvedModel, list_models, resolve_model
from splitmesh.plan.manifest import Manifest
from splitmesh.plan.manifest_toml import manifest_toml
from splitmesh.provision.model import provide_model


@click.group()
def models() -> None:
    """List, fetch and inspect models.

    \b
    Examples:
      splitmesh models ls
      splitmesh models pull yunet-face
      splitmesh models info own.onnx --manifest own.toml
      splitmesh models info own.onnx > own.toml
    """


@models.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def ls(as_json: bool) -> None:
    """List the built-in models, the default one first."""
    rows = list_models()
    if as_json:
        shown = [
            {
                "name": row.name,
                "title": row.title,
                "licence": row.licence,
                "source": row.source,
                "sha256": row.sha256,
                "size_bytes": row.size_bytes,
                "cached": str(row.cached) if row.cached else None,
                "default": row.default,
            }
            for row in rows
        ]
        click.echo(json.dumps(shown, indent=2))
        return
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    table.add_column("name", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("licence", no_wrap=True)
    table.add_column("MB", justify="right")
    table.add_column("sha256", no_wrap=True)
    table.add_column("here", no_wrap=True)
    for row in rows:
        name = Text(row.name, style="bold" if row.default else "")
        here = Text("yes", "green") if row.cached else Text("no", "dim")
        title = Text(row.title + ("  (default)" if row.default else ""))
        table.add_row(name, title, row.licence, f"{row.size_bytes / 1e6:.1f}", row.sha256[:12], here)
    Console().print(table)


@models.command("pull")
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option("--all", "everything", is_flag=True, help="All built-in models.")
def pull(names: tuple[str, ...], everything: bool) -> None:
    """Fetch models into the cache and check them (default: the default model)."""
    wanted = [row.name for row in list_models()] if everything else list(names) or [_default_name()]
    for name in wanted:
        with progress_bar() as progress:
            found = resolve_model(name, progress=progress)
        click.echo(f"{name}  {found.licence}  sha256 {found.sha256}\n  {found.path}")


@models.command("info")
@click.argument("model", required=False)
@click.option(
    "--manifest", type=click.Path(path_type=Path, dir_okay=False), help="Manifest TOML of an own ONNX file."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(model: str | None, manifest: Path | None, as_json: bool) -> None:
    """Show what is known of MODEL: a built-in name or the path of an ONNX file.

    For a file without a manifest this prints the manifest that was guessed, with the reasons as comments: save it as
    FILE.toml beside the file and correct it.
    """
    with progress_bar() as progress:
        found = provide_model(model, manifest, progress)
    facts = model_facts(found)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    if found.notes:
        click.echo(manifest_toml(found.manifest, found.notes), nl=False)
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in facts.items():
        table.add_row(key, Text(_line(value)))
    Console().print(table)


def model_facts(found: ResolvedModel) -> dict[str, Any]:
    """What `info` shows, as plain JSON values."""
    manifest = found.manifest
    return {
        "name": manifest.name,
        "file": str(found.path),
        "sha256": found.sha256,
        "licence": found.licence,
        "source": found.source,
        "input": _input(manifest),
        "extra": {extra.name: extra.value for extra in manifest.extra},
        "fit": manifest.fit,
        "scale": list(manifest.scale),
        "offset": list(manifest.offset),
        "postprocess": json.loads(manifest.postprocess.model_dump_json()),
        "anchors": None if found.anchors is None else list(found.anchors.shape),
        "labels": list(manifest.labels),
        "notes": list(found.notes),
    }


def _input(manifest: Manifest) -> str:
    shape = manifest.shape or {
        "NCHW": (1, 3, manifest.height, manifest.width),
        "NHWC": (1, manifest.height, manifest.width, 3),
    }.get(manifest.layout)
    return f"{manifest.input} {shape} {manifest.color}"


def _default_name() -> str:
    return next(row.name for row in list_models() if row.default)


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        names = [str(item) for item in value]
        return ", ".join(names[:12]) + (f", … {len(names)} in all" if len(names) > 12 else "")
    return "-" if value is None else str(value)
