"""Owns `splitmesh plan verify` and `plan profile`: a finished plan is run again on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from splitmesh.cli.plan.options import DEVICE_CLASS, FOLDER, IMAGES, SLOWDOWN, THREADS, VIDEO, frames_of
from splitmesh.cli.plan.tables import show_profiles, show_verdicts, table_console
from splitmesh.cli.progress import progress_bar
from splitmesh.plan.bundle.read import read_bundle
from splitmesh.plan.report.page import write_page

STAGES = {
    "frames": "read frames",
    "parity": "hold head and tail against the whole model",
    "profile": "measure times",
}


@click.command("verify", short_help="Parity of every cut again, on this machine.")
@FOLDER
@VIDEO
@IMAGES
@THREADS
def verify(folder: Path, videos: tuple[str, ...], folders: tuple[Path, ...], threads: int) -> int:
    """Check on this machine that head and tail of each cut together give what the whole model gives.

    Files are checked against their sha256 first. Exit status 1 if any cut fails.

    \b
    Examples:
      splitmesh plan verify site.plan
      splitmesh plan verify site.plan --video night.mp4 --images stills/ --threads 4
    """
    from splitmesh.inference.planning.verify import verify_plan

    bundle = read_bundle(folder)
    with progress_bar(names=STAGES) as progress:
        footage = frames_of(videos, folders, bundle.manifest, progress)
        verdicts = verify_plan(bundle, footage, threads=threads, progress=progress)
    if verdicts:
        show_verdicts(table_console(), verdicts)
    else:
        click.echo("the files are whole; the plan has no cut to verify")
    return int(not all(verdict.holds for verdict in verdicts))


@click.command("profile", short_help="Times of this machine, added to the plan.")
@FOLDER
@DEVICE_CLASS
@THREADS
@SLOWDOWN
def profile(folder: Path, device_class: str, threads: int, edge_slowdown: float) -> None:
    """Measure a plan's parts on this machine and add the times to it: one plan, many classes of device.

    Profiles of other device classes stay. Run it on a copy of the plan on each kind of box; the files in profiles/
    may then be collected in one folder.

    \b
    Examples:
      splitmesh plan profile site.plan --device-class pi5 --threads 4
      splitmesh plan profile site.plan --device-class pi5-slow --edge-slowdown 3
    """
    from splitmesh.inference.planning.verify import measure_profile
    from splitmesh.plan.footage import Footage
    from splitmesh.provision.pictures import picture_kinds

    old = read_bundle(folder)
    with progress_bar(names=STAGES) as progress:
        new = measure_profile(
            old,
            Footage(),
            device_class=device_class,
            threads=threads,
            edge_slowdown=edge_slowdown,
            pictures=picture_kinds(),
            progress=progress,
        )
    page = write_page(new)
    if new.profile is not None:
        show_profiles(table_console(), old.profiles.get(new.profile.device_class), new.profile)
    click.echo(f"{len(new.profiles)} profile(s): {', '.join(sorted(new.profiles))}\npage: {page}")
