"""Owns plans that ship with a built-in model: figures from the package, parts made here in seconds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from splitmesh.codec.compact.table import CompactTable
from splitmesh.errors import CodecError, ModelError
from splitmesh.inference.planning.cutting import cut_up
from splitmesh.inference.planning.examine import Trial
from splitmesh.inference.planning.finish import Finish
from splitmesh.inference.planning.request import PlanRequest, plan_key
from splitmesh.inference.planning.stages import each, slice_of, stage
from splitmesh.inference.planning.whole import Whole
from splitmesh.inference.session import open_session
from splitmesh.models.catalogue import read_catalogue, shipped_bytes, shipped_table
from splitmesh.models.registry import ResolvedModel
from splitmesh.plan.answers.postprocess import build_postprocess
from splitmesh.plan.bundle.draft import BundleDraft
from splitmesh.plan.bundle.format import parse_plan_json
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.bundle.schema import PlanFile
from splitmesh.plan.footage import Footage, made_up
from splitmesh.provision.parts import Progress, cached_folder, plan_request, used_again_or_made

_log = logging.getLogger(__name__)


def shipped_plan(
    model: ResolvedModel, *, threads: int, providers: Sequence[str] = ("auto",), progress: Progress
) -> Bundle | None:
    """The plan whose figures ship with `model`, without a profile; None if none does, or it fits no more.

    Raises OutputError.
    """
    shipped = read_shipped(model.sha256)
    if shipped is None:
        return None
    request = plan_request(model, threads=threads, providers=providers)
    if not shipped.key.parts_match(plan_key(request, Footage())):
        return None  # another manifest than the built-in one
    target = cached_folder(model, "shipped")
    try:
        return used_again_or_made(
            target,
            lambda bundle: _holds(bundle.plan, shipped),
            lambda: _make(shipped, request, target, progress),
            progress,
        )
    except ModelError as exc:
        _log.warning("the plan that ships with %s is not used: %s", model.manifest.name, exc)
        return None


def read_shipped(model_sha256: str) -> PlanFile | None:
    """What ships for a model: a plan file that lists no files, since its parts are made where they run.

    Raises ModelError if the installation is damaged or of two minds.
    """
    name = _plan_name(model_sha256)
    return parse_plan_json(shipped_bytes(name), where=f"models/data/{name}") if name else None


def shipped_tables(plan: PlanFile) -> dict[str, CompactTable]:
    """The calibration tables of a shipped plan by cut. Raises ModelError if the installation is damaged."""
    tables: dict[str, CompactTable] = {}
    for cut in (cut for cut in plan.cuts if cut.table_id):
        name = shipped_table(_plan_name(plan.key.model_sha256), cut.name)
        try:
            table = CompactTable.from_bytes(shipped_bytes(name))
        except CodecError as exc:
            raise ModelError(f"models/data/{name} is damaged: {exc.message}", advice="reinstall splitmesh") from exc
        if table.id != cut.table_id:
            raise ModelError(f"models/data/{name} is not the table of the plan", advice="reinstall splitmesh")
        tables[cut.name] = table
    return tables


def _plan_name(model_sha256: str) -> str:
    """The shipped plan file of a model; "" for none."""
    return next((row.plan for row in read_catalogue().model if row.sha256 == model_sha256 and row.plan), "")


def _holds(plan: PlanFile, shipped: PlanFile) -> bool:
    """All figures are those that ship; files, and what they can do, may be of another machine."""
    return (plan.key, plan.rows, plan.track_kappa, [(cut.shapes, cut.table_id) for cut in plan.cuts]) == (
        *(shipped.key, shipped.rows, shipped.track_kappa),
        [(cut.shapes, cut.table_id) for cut in shipped.cuts],
    )


def _make(shipped: PlanFile, request: PlanRequest, out: Path, progress: Progress) -> Bundle:
    """The parts of exactly the shipped cuts. Raises ModelError if one does not come out of the graph as it was."""
    with BundleDraft(out) as draft:
        draft.add_manifest(request.manifest, request.anchors)
        cutting = cut_up(request, draft, progress)
        found = {cut.name: cut for cut in cutting.shortlist}
        for entry in shipped.cuts:
            if entry.name not in found or found[entry.name].shapes != entry.shapes:
                raise ModelError(f"cut {entry.name} does not come out of the graph any more")
        cutting = replace(cutting, shortlist=tuple(found[entry.name] for entry in shipped.cuts))
        session = open_session(cutting.full_path, threads=request.threads, providers=request.providers, lean=True)
        whole = Whole(request.manifest, session, build_postprocess(request.manifest, request.anchors))
        samples = made_up(height=request.manifest.height, width=request.manifest.width)
        trial = Trial(draft, cutting, whole, request.providers, samples, ())
        kept = trial.run(slice_of(stage(progress, "parity"), 0, 2), lambda _share: None)
        if trial.rejected:
            raise ModelError("; ".join(f"cut {rejected.name}: {rejected.reason}" for rejected in trial.rejected))
        finish = Finish(draft, cutting, whole, request.providers, samples)
        step = slice_of(stage(progress, "parity"), 1, 2)
        batches = {done.cut.name: finish.cut(done).batchable for done in each(kept, step)}
        facts = shipped.model_dump(exclude={"files", "cuts", "batchable"})
        cuts = tuple(entry.model_copy(update={"batchable": batches[entry.name]}) for entry in shipped.cuts)
        for name, table in shipped_tables(shipped).items():
            draft.add_table(name, table)
        return draft.publish({**facts, "cuts": cuts, "batchable": finish.full()})
