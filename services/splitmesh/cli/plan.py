"""Owns `splitmesh plan`: building a plan folder from a model and a video, and showing one."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from splitmesh.cli.progress import progress_bar
from splitmesh.plan.bundle.old_read import Bundle, read_bundle, summarize

_COLUMNS = {
    "point": "point",
    "payload_kb": "kB",
    "fidelity": "fidelity",
    "edge_ms": "edge",
    "encode_ms": "enc",
    "decode_ms": "dec",
    "cloud_ms": "cloud",
    "resume_ms": "resume",
}
"""Key of a summary row → heading. Times are milliseconds."""


@click.group()
def plan() -> None:
    """Cut a model in two, profile and calibrate it, and show the result.

    \b
    Examples:
      splitmesh plan build coco-ssdlite --video site.mp4 -o site.plan
      splitmesh plan build own.onnx --manifest own.toml --video site.mp4 -o own.plan --threads 2
      splitmesh plan show site.plan
    """


@plan.command("build")
@click.argument("model")
@click.option("--video", metavar="FILE|URL", help="Frames to calibrate on; default: the built-in street clip.")
@click.option(
    "--manifest", type=click.Path(path_type=Path, dir_okay=False), help="Manifest TOML of an own ONNX file."
)
@click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Plan folder.")
@click.option(
    "--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Runtime threads to profile."
)
def build(model: str, video: str | None, manifest: Path | None, out: Path, threads: int) -> None:
    """Build the plan of MODEL at --out, or check the one that is there and keep it if it still holds."""
    from splitmesh.models.registry import default_clip, resolve_model
    from splitmesh.provision.plan import calibrated_plan

    with progress_bar() as progress:
        found = resolve_model(model, manifest_path=manifest, progress=progress)
        source = video if video is not None else str(default_clip(progress))
        bundle = calibrated_plan(found, source, threads=threads, out=out, progress=progress)
    _show(bundle)


@plan.command("show")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def show(folder: Path, as_json: bool) -> None:
    """Show a plan's cuts and operating points, and check that its files are whole."""
    bundle = read_bundle(folder)
    if not as_json:
        _show(bundle)
        return
    row = {
        "model": bundle.manifest.name,
        "sha256": bundle.sha256,
        "device": bundle.device,
        "threads": bundle.threads,
        "track_kappa": bundle.track_kappa,
        "cuts": [json.loads(cut.model_dump_json()) for cut in bundle.cuts],
        "dropped": [json.loads(cut.model_dump_json()) for cut in bundle.plan.dropped],
        "points": summarize(bundle),
    }
    click.echo(json.dumps(row, indent=2))


def _show(bundle: Bundle) -> None:
    console = Console()
    head = Text.assemble(
        (bundle.manifest.name, "bold"),
        f"  sha256 {bundle.sha256[:16]}…  {bundle.device}, {bundle.threads} thread(s), κ {bundle.track_kappa:.3g}",
    )
    console.print(head)
    cuts = Table(title="cuts", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    cuts.add_column("cut", no_wrap=True)
    cuts.add_column("tensors")
    for heading in ("elements", "head share", "parity error"):
        cuts.add_column(heading, justify="right")
    for cut in bundle.cuts:
        shapes = " + ".join("×".join(map(str, shape)) for shape in cut.shapes)
        cuts.add_row(cut.name, shapes, f"{cut.elements:,}", f"{cut.head_share:.0%}", f"{cut.parity_error:.1e}")
    console.print(cuts)
    for dropped in bundle.plan.dropped:
        console.print(Text(f"dropped {dropped.name}: {dropped.reason}", style="dim"))
    rows = summarize(bundle)
    if not rows:
        console.print("no operating points: the plan holds the parts only")
        return
    title = "operating points (times in ms)"
    tight = (0, 1, 0, 0)
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=tight)
    for key, heading in _COLUMNS.items():
        table.add_column(heading, justify="left" if key == "point" else "right", no_wrap=True)
    for row in sorted(rows, key=lambda each: (str(each["place"]), str(each["cut"]), -float(each["payload_kb"]))):
        table.add_row(*(Text(_cell(key, row[key])) for key in _COLUMNS))
    console.print(table)


def _cell(key: str, value: object) -> str:
    if not isinstance(value, (int, float)):
        return str(value)
    return f"{value:.3f}" if key == "fidelity" else f"{value:.1f}"
