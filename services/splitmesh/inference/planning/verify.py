"""Owns looking at a finished plan again on this machine: parity of every cut, and the times of its parts."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from splitmesh.codec.coders import JPEG, PictureKind
from splitmesh.errors import ModelError
from splitmesh.inference.energy import energy_meter
from splitmesh.inference.planning.coding_times import coding_times
from splitmesh.inference.planning.cutting import precision_of
from splitmesh.inference.planning.make import parity_samples, profile_of
from splitmesh.inference.planning.parity import Verdict, check_parity, failed, open_part
from splitmesh.inference.planning.stages import Progress, each, slice_of, stage
from splitmesh.inference.planning.times import Located, affordable_batches, part_times
from splitmesh.inference.planning.variants import variant_files
from splitmesh.inference.planning.whole import Whole
from splitmesh.inference.session import open_session
from splitmesh.plan.bundle.draft import add_profile
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.bundle.schema import ProfileFile
from splitmesh.plan.footage import Footage, made_up
from splitmesh.plan.graph.view import GraphView

CALM = 4
"""Noise of a made-up picture on which coding takes about as long as on a real one."""


def verify_plan(
    bundle: Bundle, footage: Footage, *, threads: int = 1, providers: tuple[str, ...] = ("auto",), progress: Progress
) -> list[Verdict]:
    """Parity of each cut on this machine, on real frames (made-up pictures where there are few), one cut at a time.

    progress: stage "parity". Raises ModelError if the whole model can't be loaded, InferenceError if it fails on a
    frame, FrameShapeError for a frame of another size.
    """
    whole = _whole(bundle, threads, providers)
    footage.check(height=bundle.manifest.height, width=bundle.manifest.width)
    samples = parity_samples(footage, bundle.manifest)
    precision = precision_of(GraphView(onnx.load(bundle.full_path, load_external_data=False)))
    verdicts = []
    for cut in each(_located(bundle), stage(progress, "parity")):
        try:
            part = open_part(*cut, threads=threads, providers=providers)
            verdicts.append(check_parity(whole, part, samples, precision))
        except ModelError as exc:
            verdicts.append(failed(cut[0], precision, f"its parts can't be loaded: {exc}"))
    return verdicts


def measure_profile(
    bundle: Bundle,
    footage: Footage,
    *,
    device_class: str = "",
    threads: int = 1,
    providers: tuple[str, ...] = ("auto",),
    edge_slowdown: float = 1.0,
    pictures: Sequence[PictureKind] = (JPEG,),
    progress: Progress,
) -> Bundle:
    """Add the profile of this machine to a plan's folder. Returns the plan with it selected.

    See `measured_profile`. Raises ModelError, InferenceError, OutputError.
    """
    profile = measured_profile(
        bundle,
        footage,
        device_class=device_class,
        threads=threads,
        providers=providers,
        edge_slowdown=edge_slowdown,
        pictures=pictures,
        progress=progress,
    )
    add_profile(bundle.folder, profile)
    return bundle.with_profile(profile)


def measured_profile(
    bundle: Bundle,
    footage: Footage,
    *,
    device_class: str = "",
    threads: int = 1,
    providers: tuple[str, ...] = ("auto",),
    edge_slowdown: float = 1.0,
    pictures: Sequence[PictureKind] = (JPEG,),
    progress: Progress,
) -> ProfileFile:
    """Measure every part and codec of a plan on this machine; the plan's folder stays as it is.

    On a frame of `footage`, else on a made-up picture: times hardly depend on it. pictures: the ways to code pictures
    that this process has; points of others get no times, and so are none. progress: stage "profile".
    Raises ModelError, InferenceError, FrameShapeError.
    """
    whole = _whole(bundle, threads, providers)
    height, width = bundle.manifest.height, bundle.manifest.width
    footage.check(height=height, width=width)
    samples = footage.samples or made_up(height=height, width=width, count=1, noise=CALM)
    picture = samples[len(samples) // 2].picture
    step, cuts = stage(progress, "profile"), _located(bundle)
    times = part_times(
        whole,
        cuts,
        picture,
        slice_of(step, 0, 2),
        providers=providers,
        batches=affordable_batches(bundle.plan.strip),
        variants=variant_files(bundle),
        meter=energy_meter(),
    )
    times |= coding_times(
        whole,
        cuts,
        bundle.plan.rows,
        picture,
        slice_of(step, 1, 2),
        providers=providers,
        tables={cut.name: table for cut in bundle.cuts if (table := bundle.table(cut.name)) is not None},
        pictures=pictures,
    )
    return profile_of(bundle, whole, times, name=device_class, edge_slowdown=edge_slowdown)


def _whole(bundle: Bundle, threads: int, providers: tuple[str, ...]) -> Whole:
    return Whole(
        bundle.manifest,
        open_session(bundle.full_path, threads=threads, providers=providers, lean=True),
        bundle.postprocess(),
    )


def _located(bundle: Bundle) -> list[Located]:
    return [(cut.name, cut.shapes, (bundle.head_path(cut.name), bundle.tail_path(cut.name))) for cut in bundle.cuts]
