"""Owns making a plan folder: the order of the steps, and what each hands to the next. Decides nothing on reuse.

Head and tail of one cut are loaded at a time, beside the whole model, and all weights lie in one file: a plan needs
little more memory than the model. All but the profile follows from model, manifest and footage: how many frames a
slow model gets is read off its graph, not off a clock.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnxruntime

from splitmesh.inference.energy import energy_meter
from splitmesh.inference.planning.calibration import ROWS, Calibration, frames_in_a_row
from splitmesh.inference.planning.cutting import Cutting, cut_up
from splitmesh.inference.planning.examine import Kept, Trial
from splitmesh.inference.planning.finish import Finish
from splitmesh.inference.planning.request import PlanRequest, plan_key
from splitmesh.inference.planning.small import SMALL, Small, add_small, why_not_offered
from splitmesh.inference.planning.stages import Progress, each, quiet, slice_of, stage
from splitmesh.inference.planning.times import NO_VARIANTS, VariantFiles, affordable_batches, part_times
from splitmesh.inference.planning.tracking import tracking
from splitmesh.inference.planning.variants import Quantising
from splitmesh.inference.planning.whole import Whole
from splitmesh.inference.profile import device_class
from splitmesh.inference.providers import describe_device
from splitmesh.inference.session import open_session
from splitmesh.plan.answers.postprocess import build_postprocess
from splitmesh.plan.bundle.draft import BundleDraft, add_profile
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.bundle.schema import FrameCounts, PartTiming, ProfileFile, RateRow, RejectedCut
from splitmesh.plan.calibrate import KAPPA_PRIOR, fit_track_kappa
from splitmesh.plan.footage import Footage, Sample, evenly, made_up
from splitmesh.plan.manifest import Manifest

_log = logging.getLogger(__name__)

PARITY_FRAMES = 16
SCREEN_FRAMES = 4
EVALUATED_FRAMES = 24
FEWEST_EVALUATED = 6
TRACK_FRAMES = 64
WORK_PER_MS = 4e7
"""Static cost (see `GraphView.cost`) that one core runs in a millisecond, cautiously: real detectors and classifiers
measured 5e7 … 8e7 on x86."""
CALIBRATION_BUDGET_MS = 25_000.0
TRACKING_BUDGET_MS = 10_000.0
RUNS_PER_FRAME = 32.0
"""Whole models' worth of work that calibrating on one frame takes, with four cuts and all codecs but those with a
memory."""
RUNS_PER_CONSECUTIVE = 32
"""The same for codecs with a memory, and what they are compared with."""
ANSWER_BYTES = 160_000_000
"""Of class maps and raw outputs that may be held at a time."""


def make_plan(request: PlanRequest, footage: Footage, out: Path, progress: Progress) -> Bundle:
    """Build the plan of a model at `out` and profile it on this machine; see `stages` for what progress is told.

    Without footage the plan holds the cuts and their parts only, checked on made-up pictures: what a worker needs.
    Which cuts are on the shortlist, and their names, follow from the model alone; with footage at most four stay.
    A folder that is there is replaced; processes that want the same one must take turns (`plan.bundle.draft.locked`).
    Raises ModelError (model or manifest), InferenceError (the whole model fails on a frame), FrameShapeError (a
    frame), OutputError (`out`).
    """
    manifest = request.manifest
    footage.check(height=manifest.height, width=manifest.width)
    key = plan_key(request, footage)
    with BundleDraft(out) as draft:
        draft.add_manifest(manifest, request.anchors)
        small = None if request.small is None else add_small(request, request.small, draft)
        cutting = cut_up(request, draft, progress)
        session = open_session(
            cutting.full_path,
            threads=request.threads,
            providers=request.providers,
            called=request.model_path,
            lean=True,
        )
        whole = Whole(manifest, session, build_postprocess(manifest, request.anchors))
        return _Making(request, footage, draft, cutting, whole, small, progress, facts={"key": key}).run()


@dataclass
class _Making:
    request: PlanRequest
    footage: Footage
    draft: BundleDraft
    cutting: Cutting
    whole: Whole
    small: Small | None
    progress: Progress
    rows: list[RateRow] = field(default_factory=list)
    variants: VariantFiles = NO_VARIANTS
    facts: dict[str, Any] = field(default_factory=dict)
    """Of the plan file, as they become known."""
    times: dict[str, PartTiming] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def run(self) -> Bundle:
        parity = parity_samples(self.footage, self.request.manifest)
        self._refer(parity)
        kept = self._try(parity)
        evaluated = self._evaluated() if self.footage else []
        if evaluated:
            self._calibrate(kept, evaluated)
            self._vary(kept, evaluated)
            self._profile(kept, evaluated[0])
            self._track()
        self.facts |= {
            "calibrated": bool(evaluated),
            "frames": FrameCounts(
                parity=min(PARITY_FRAMES, len(self.footage.samples)),
                fit=len(self.footage.fit),
                evaluate=len(evaluated),
            ),
        }
        return self._write()

    def _refer(self, parity: Sequence[Sample]) -> None:
        """The whole model's outputs for parity, and whether they are the same each time."""
        step = stage(self.progress, "reference")
        for sample in each(parity, slice_of(step, 0, 2)):
            next(self.whole.cases([sample]))
        same = self.whole.deterministic(parity[0], self.cutting.full_path, self.request.providers)
        self.facts["deterministic"] = same
        step(1.0)

    def _try(self, parity: Sequence[Sample]) -> list[Kept]:
        screening = evenly(self.footage.evaluate, SCREEN_FRAMES)
        fit = self.footage.fit
        trial = Trial(self.draft, self.cutting, self.whole, self.request.providers, parity, screening, fit)
        screen_step = stage(self.progress, "screen") if screening else quiet
        kept = trial.run(slice_of(stage(self.progress, "parity"), 0, 2), screen_step)
        finish = Finish(self.draft, self.cutting, self.whole, self.request.providers, parity)
        finished = slice_of(stage(self.progress, "parity"), 1, 2)
        kept = [finish.cut(each_kept) for each_kept in each(kept, finished)]
        self.facts["batchable"] = finish.full()
        self.whole.forget_outputs()
        rejected = (*self.cutting.rejected, *trial.rejected)
        self.facts |= {
            "cuts": tuple(each_kept.entry() for each_kept in kept),
            "rejected": tuple(RejectedCut(name=r.name, stage=r.stage, reason=r.reason) for r in rejected),
        }
        for rejection in trial.rejected:
            _log.info("cut %s of %s goes: %s", rejection.name, self.request.manifest.name, rejection.reason)
        if not kept:
            why = f"none of {len(self.cutting.shortlist)} cuts passed" if self.cutting.shortlist else "no legal cut"
            self.notes.append(f"{why}: the model is never split, it runs on the edge or on the worker as a whole")
        return kept

    def _evaluated(self) -> list[Sample]:
        """The frames that fidelity is measured on, as many as the model's static cost and its answers' size allow."""
        patience = self.request.patience
        runs = patience * CALIBRATION_BUDGET_MS * WORK_PER_MS / (RUNS_PER_FRAME * max(self.cutting.work, 1.0))
        count = max(FEWEST_EVALUATED, min(round(patience * EVALUATED_FRAMES), int(runs)))
        first = self.footage.evaluate[0]
        held = sum(value.nbytes for value in self.whole.reference(first).tensors.values())
        if held:
            count = max(2, min(count, ANSWER_BYTES // held))
        chosen = evenly(self.footage.evaluate, count)
        if len(chosen) < FEWEST_EVALUATED:
            self.notes.append(
                f"only {len(chosen)} frames to measure fidelity on: it is rough, {EVALUATED_FRAMES} are better"
            )
        return chosen

    def _calibrate(self, kept: Sequence[Kept], evaluated: Sequence[Sample]) -> None:
        """Every codec and level on each kept cut, one cut loaded at a time, and on the picture."""
        affordable = int(CALIBRATION_BUDGET_MS * WORK_PER_MS / max(self.cutting.work, 1.0))
        found = Calibration(
            self.draft,
            self.whole,
            self.request.providers,
            self.footage,
            evaluated,
            consecutive=frames_in_a_row(
                self.footage,
                int(self.request.patience * (affordable // RUNS_PER_CONSECUTIVE)),
                videos=math.ceil(self.request.patience * ROWS),
            ),
            runs=min(self.request.fit_runs, int(self.request.patience * affordable)),
        )
        found.run(kept, self.request.pictures, stage(self.progress, "fit"), stage(self.progress, "calibrate"))
        self.rows += found.measured.rows
        self.times |= found.measured.times
        self.notes += found.notes
        ids = {name: by.table.id for name, by in found.tuned.items()}
        self.facts["cuts"] = tuple(
            cut.model_copy(update={"table_id": ids.get(cut.name, "")}) for cut in self.facts["cuts"]
        )

    def _vary(self, kept: Sequence[Kept], evaluated: Sequence[Sample]) -> None:
        """What the edge may run in place of the model, as far as it was asked for."""
        if self.request.int8:
            int8 = Quantising(
                self.draft, self.cutting, self.whole, self.request.providers, self.footage.fit, evaluated
            )
            int8.run(kept, stage(self.progress, "quantise"))
            self.rows += int8.rows
            self.notes += int8.notes
            self.variants = int8.files
        if self.small is not None:
            row = self.small.rates(self.whole, evaluated, stage(self.progress, "small"))
            self.rows.append(row)
            self.notes += why_not_offered(row)
            self.variants = self.variants.with_whole(SMALL, self.small.session.path)

    def _profile(self, kept: Sequence[Kept], sample: Sample) -> None:
        step = stage(self.progress, "profile")
        located = [each_kept.located for each_kept in kept]
        self.times |= part_times(
            self.whole,
            located,
            sample.picture,
            step,
            providers=self.request.providers,
            batches=affordable_batches(self.cutting.strip),
            variants=self.variants,
            meter=energy_meter(),
        )

    def _track(self) -> None:
        affordable = int(TRACKING_BUDGET_MS * WORK_PER_MS / max(self.cutting.work, 1.0))
        samples = tracking(self.whole, self.footage, min(TRACK_FRAMES, affordable), stage(self.progress, "track"))
        self.facts |= {"track_kappa": fit_track_kappa(samples), "track_samples": len(samples)}

    def _write(self) -> Bundle:
        self.progress("write", 0.0)
        cutting = self.cutting
        bundle = self.draft.publish(
            {
                "rows": tuple(self.rows),
                "track_kappa": KAPPA_PRIOR,
                "track_samples": 0,
                "tools": tools(),
                "notes": (*self.request.notes, *cutting.precision.notes, *self.notes),
                "nodes": cutting.nodes,
                "frontiers": cutting.frontiers,
                "strip": cutting.strip,
                **self.facts,
            }
        )
        if self.times:
            bundle = put_profile(
                bundle,
                self.whole,
                self.times,
                name=self.request.device_class,
                edge_slowdown=self.request.edge_slowdown,
            )
        self.progress("write", 1.0)
        return bundle


def parity_samples(footage: Footage, manifest: Manifest) -> list[Sample]:
    """Real frames spread over the footage; made-up pictures too where there are fewer than `PARITY_FRAMES`."""
    real = evenly(footage.samples, PARITY_FRAMES)
    if len(real) == PARITY_FRAMES:
        return real
    return [*real, *made_up(height=manifest.height, width=manifest.width)]


def put_profile(
    bundle: Bundle, whole: Whole, times: dict[str, PartTiming], *, name: str, edge_slowdown: float
) -> Bundle:
    """Add the times to the plan as the profile of device class `name` ("": made from device and threads)."""
    profile = profile_of(bundle, whole, times, name=name, edge_slowdown=edge_slowdown)
    add_profile(bundle.folder, profile)
    return bundle.with_profile(profile)


def profile_of(
    bundle: Bundle, whole: Whole, times: dict[str, PartTiming], *, name: str, edge_slowdown: float
) -> ProfileFile:
    """The times as a profile of the plan, for device class `name` ("": made from device and threads)."""
    device = describe_device(whole.session.provider)
    return ProfileFile(
        plan_sha256=bundle.plan_sha256,
        device_class=name or device_class(device, whole.session.threads),
        device=device,
        provider=whole.session.provider,
        threads=whole.session.threads,
        tools=tools(),
        edge_slowdown=edge_slowdown,
        times=dict(sorted(times.items())),
    )


def tools() -> dict[str, str]:
    """Versions of what decides a plan's bytes and a profile's times."""
    return {name: version(name) for name in ("splitmesh", "onnx", "numpy")} | {"onnxruntime": onnxruntime.__version__}
