"""Owns `splitmesh bench`: measurements that a user runs on own footage and own links. Judges nothing itself."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console

from splitmesh.cli.bench.fleet import fleet
from splitmesh.cli.bench.policy import policy
from splitmesh.cli.bench.tables import show_comparison
from splitmesh.cli.plan.tables import table_console
from splitmesh.cli.progress import progress_bar
from splitmesh.plan.bundle.draft import write_atomically
from splitmesh.plan.bundle.read import Bundle, read_bundle
from splitmesh.provision.codec_bench.candidates import FEATURES
from splitmesh.provision.codec_bench.curves import Comparison

FRAMES = 120
STAGES = {
    "frames": "read frames",
    "reference": "run the whole model",
    "pictures": "codecs of the picture",
}


@click.group()
def bench() -> None:
    """Measure on your own footage, and over your own links, what is to be believed.

    \b
    Examples:
      splitmesh bench codec --plan site.plan --video held-out.mp4 --json codecs.json --plot codecs.png
      splitmesh bench policy --traces traces/ --json policy.json --plot policy.png
      splitmesh bench fleet --edges 100 --per-uplink 10 --workers 4
    """


bench.add_command(fleet)
bench.add_command(policy)


@bench.command("codec", short_help="Rate and fidelity of every codec at every cut, beside JPEG, WebP and x264.")
@click.option(
    "--plan",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    required=True,
    help="The plan whose cuts and tables are measured, as `splitmesh plan` made it.",
)
@click.option(
    "--video", metavar="FILE|URL", required=True, help="Frames to measure on: best other ones than the plan saw."
)
@click.option(
    "--images",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Pictures to measure on beside the video; each stands alone, as after a scene change.",
)
@click.option(
    "--frames",
    type=click.IntRange(2, 100_000),
    default=FRAMES,
    show_default=True,
    metavar="N",
    help="Take the first N frames of the video.",
)
@click.option("--cut", "cuts", multiple=True, metavar="NAME", help="Only this cut; may be given again. Default: all.")
@click.option(
    "--codec",
    "codecs",
    multiple=True,
    type=click.Choice(FEATURES),
    metavar="NAME",
    help=f"Only this codec of {', '.join(FEATURES)}; may be given again. The pictures' are always measured.",
)
@click.option(
    "--json", "json_out", type=click.Path(path_type=Path, dir_okay=False), metavar="OUT", help="Write figures there."
)
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), metavar="OUT.png", help="Draw the curves there."
)
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
def codec(
    folder: Path,
    video: str,
    images: Path | None,
    frames: int,
    cuts: tuple[str, ...],
    codecs: tuple[str, ...],
    json_out: Path | None,
    plot: Path | None,
    quiet: bool,
) -> None:
    """Compare the codecs of a plan with pictures: bytes against fidelity, on the same frames.

    At every cut every codec is swept over its levels; beside them JPEG, WebP, x264 with each frame on its own, and
    x264 with zero latency from frame to frame code the model's input. Fidelity is agreement with the unsplit model.
    The Bjøntegaard rate sums a pair of curves up: mean bytes at equal fidelity, between 0.85 and 0.99, as far as
    both reach; -75 % are four times fewer bytes. Times are of one core.

    The plan's own tables are used, so that footage which the plan has not seen tells what to expect elsewhere.

    \b
    Examples:
      splitmesh bench codec --plan site.plan --video held-out.mp4 --json codecs.json --plot codecs.png
      splitmesh bench codec --plan site.plan --video held-out.mp4 --images stills/ --frames 300
      splitmesh bench codec --plan site.plan --video held-out.mp4 --cut n37-64x19x19 --codec compact --codec temporal
    """
    if plot is not None:
        from splitmesh.cli.bench.plot import check_name, write_plot  # before the work: matplotlib may be missing

        check_name(plot)
    bundle = read_bundle(folder)
    for cut in cuts:
        bundle.cut(cut)
    comparison = _measured(bundle, video, images, frames, cuts, codecs, quiet=quiet)
    if json_out is not None:
        write_atomically(json_out, (json.dumps(comparison.document(), indent=1) + "\n").encode())
    if plot is not None:
        write_plot(comparison, plot)
    if not quiet:
        _tell(table_console(), comparison, [path for path in (json_out, plot) if path is not None])


def _measured(
    bundle: Bundle,
    video: str,
    images: Path | None,
    frames: int,
    cuts: tuple[str, ...],
    codecs: tuple[str, ...],
    *,
    quiet: bool,
) -> Comparison:
    from splitmesh.provision.codec_bench.frames import calibrated_on
    from splitmesh.provision.codec_bench.measure import Wanted, compare_codecs
    from splitmesh.provision.footage import read_beginning

    names = {**STAGES, **{f"cut {cut.name}": f"codecs at {cut.name}" for cut in bundle.cuts}}
    with progress_bar(quiet=quiet, names=names) as progress:
        footage = read_beginning(video, images, bundle.manifest, frames=frames, progress=progress)
        seen = calibrated_on(bundle, video, images)
        if seen:
            click.echo(
                "warning: the plan was calibrated on this very footage: its codecs look better here than they are",
                err=True,
            )
        return compare_codecs(
            bundle,
            footage,
            Wanted(cuts, codecs),
            source={"plan": str(bundle.folder), "video": video, "images": str(images or "")},
            calibrated_on_this_footage=seen,
            progress=progress,
        )


def _tell(console: Console, comparison: Comparison, written: list[Path]) -> None:
    show_comparison(console, comparison)
    for path in written:
        click.echo(f"written: {path}")
