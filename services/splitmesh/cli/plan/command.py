"""Owns `splitmesh plan`: making the plan of a model, and the group of what can be asked of one that is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.text import Text

from splitmesh.cli.plan.ask import diff, show
from splitmesh.cli.plan.group import BuildCommand, PlanGroup
from splitmesh.cli.plan.measure import profile, verify
from splitmesh.cli.plan.options import DEVICE_CLASS, IMAGES, PATIENCE, SLOWDOWN, THREADS, VIDEO, frames_of
from splitmesh.cli.plan.tables import show_plan, table_console
from splitmesh.cli.progress import progress_bar
from splitmesh.plan.bundle.draft import write_atomically
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.report.document import document
from splitmesh.plan.report.page import write_page

if TYPE_CHECKING:
    from splitmesh.models.registry import ResolvedModel

STAGES = {
    "frames": "read frames",
    "load": "load the model",
    "cuts": "look for cuts",
    "reference": "run the whole model",
    "parity": "hold head and tail against it",
    "screen": "try each cut on real frames",
    "fit": "fit calibration tables",
    "calibrate": "measure bytes and fidelity",
    "quantise": "quantise to int8",
    "small": "try the smaller model",
    "profile": "measure times",
    "track": "fit the tracker",
    "write": "write the plan",
    "reuse": "the plan that is there holds",
}
"""What is shown of the stages of making a plan."""


@click.command(cls=BuildCommand)
@click.argument("model", metavar="MODEL")
@VIDEO
@IMAGES
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Manifest TOML of an own ONNX file; default: the one beside it, else a guess, said aloud.",
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Folder to make; default: ./NAME.plan.",
)  # fmt: skip
@THREADS
@SLOWDOWN
@DEVICE_CLASS
@click.option("--int8/--no-int8", default=True, show_default=True, help="Also try quantised models on the edge.")
@PATIENCE
@click.option("--small", metavar="MODEL", help="A second, smaller model that the edge may fall back to.")
@click.option("--json", "json_out", metavar="OUT", help="Also write the plan as JSON there; - for standard output.")
@click.option("--force", is_flag=True, help="Make the plan anew even if the one that is there still holds.")
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
def build(
    model: str,
    videos: tuple[str, ...],
    folders: tuple[Path, ...],
    manifest: Path | None,
    out: Path | None,
    threads: int,
    edge_slowdown: float,
    device_class: str,
    int8: bool,
    patience: float,
    small: str | None,
    json_out: str | None,
    force: bool,
    quiet: bool,
) -> None:
    """Make the plan of MODEL: a built-in name or the path of an ONNX file.

    A plan that is there and still holds is kept, another one is replaced; a folder that is no plan is left alone.

    \b
    Examples:
      splitmesh plan coco-ssdlite --video site.mp4 -o site.plan
      splitmesh plan own.onnx --images stills/ --video day.mp4 --video night.mp4 --threads 2
    """
    from splitmesh.cli.plan.making import asked_for, kept_or_made
    from splitmesh.provision.model import provide_model

    with progress_bar(quiet=quiet, names=STAGES) as progress:
        found = provide_model(model, manifest, progress)
        smaller = provide_model(small, None, progress) if small else None
    if not quiet:
        _say_guesses(found, smaller)
    request = asked_for(
        found,
        threads=threads,
        edge_slowdown=edge_slowdown,
        name=device_class,
        int8=int8,
        small=smaller,
        patience=patience,
    )
    with progress_bar(quiet=quiet, names=STAGES) as progress:
        footage = frames_of(videos, folders, found.manifest, progress, patience=patience)
        folder = out or Path(f"{found.manifest.name}.plan")
        bundle = kept_or_made(request, footage, folder, force=force, progress=progress)
    page = write_page(bundle)
    if json_out is not None:
        _write_json(bundle, json_out)
    if not quiet:
        _tell(table_console(stderr=json_out == "-"), bundle, page)


def _say_guesses(*models: ResolvedModel | None) -> None:
    for model in models:
        for note in model.notes if model else ():
            click.echo(f"guessed: {note}", err=True)


def _write_json(bundle: Bundle, out: str) -> None:
    text = json.dumps(document(bundle), indent=2) + "\n"
    if out == "-":
        click.echo(text, nl=False)
    else:
        write_atomically(Path(out), text.encode())


def _tell(console: Console, bundle: Bundle, page: Path) -> None:
    """What the plan holds, where it is to be looked at, and what to do with it."""
    show_plan(console, bundle)
    console.print()
    for what, text in (
        ("page", str(page)),
        ("use", f"splitmesh edge --plan {bundle.folder} --source …"),
        ("", f"splitmesh cloud --plan {bundle.folder}"),
    ):
        console.print(Text.assemble((f"{what:<6}", "bold"), text), soft_wrap=True)


@click.group(cls=PlanGroup, build=build)
def plan() -> None:
    """Make a plan: cut a model in two, check and measure every part, keep what is worth choosing from.

    MODEL is a built-in name or the path of an ONNX file. Without a manifest its input and outputs are guessed from
    the graph, and the guesses are said. The commands below ask, check, profile and compare plans that are there.

    \b
    Examples:
      splitmesh plan coco-ssdlite --video site.mp4 -o site.plan
      splitmesh plan own.onnx --manifest own.toml --images stills/ --threads 2 --json own.json
      splitmesh plan show site.plan
      splitmesh plan diff site.plan other.plan
    """


for _command in (show, verify, profile, diff):
    plan.add_command(_command)
