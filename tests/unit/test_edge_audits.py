"""Answers held against the whole model's own on an idle device: real device thread and bus twin, scripted parts."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from splitmesh.edge.frame import OpenFrame
from splitmesh.errors import InferenceError
from splitmesh.frames.outcome import Outcome
from splitmesh.inference.planning.make import make_plan
from splitmesh.inference.planning.request import PlanRequest
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.footage import Footage
from splitmesh.policy.point import Place

sys.path.append(str(Path(__file__).parent))
from plan_graphs import classifier_manifest, residual_classifier, save
from test_edge_pipeline import OF_LOCAL, OF_WORKER, POINTS, Rig, answer, until


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("plan")
    model = save(residual_classifier(), folder / "model.onnx")
    return make_plan(PlanRequest(model, classifier_manifest()), Footage(), folder / "tiny.plan", lambda *_: None)


@pytest.fixture
async def rig(tmp_path: Path, plan: Bundle) -> AsyncIterator[Rig]:
    made = Rig(tmp_path, plan)
    await made.start()
    yield made
    await made.close()
    assert made.settlement.ledger.conserved, made.settlement.ledger


def is_due(rig: Rig) -> None:
    """Device time for an audit has been earned."""
    rig.pipeline._device._audits._earned_ms = math.inf


async def answered(rig: Rig, place: Place, kind: int = OF_WORKER) -> OpenFrame:
    """A frame that a worker has answered by a box of class `kind`, settled."""
    frame = rig.frame(place, budget_ms=2_000)
    task = rig.run(frame)
    await rig.reply(answer(kind))
    await asyncio.wait_for(task, 10)
    return frame


@pytest.mark.parametrize("place", [Place.FRAME, Place.SPLIT])
@pytest.mark.parametrize(("kind", "better"), [(OF_LOCAL, True), (OF_WORKER, False)])
async def test_an_idle_device_audits_what_a_worker_said(rig: Rig, place: Place, kind: int, better: bool) -> None:
    is_due(rig)
    await answered(rig, place, kind)
    await until(lambda: rig.world.fidelity.audits == 1)
    believed = rig.world.by_name[POINTS[place].name].fidelity
    assert (believed > POINTS[place].fidelity) is better
    assert rig.records()[-1].outcome.answered and len(rig.records()) == 1


async def test_a_stand_in_for_the_model_is_audited_by_the_model(rig: Rig) -> None:
    is_due(rig)
    small = dataclasses.replace(POINTS[Place.LOCAL], name="local/small", variant="small")
    await asyncio.wait_for(rig.run(rig.frame(Place.LOCAL, budget_ms=2_000, point=small)), 10)
    await until(lambda: rig.world.fidelity.audits == 1)
    assert rig.parts.variants == ["small", ""]


async def test_the_models_own_answers_are_not_audited(rig: Rig) -> None:
    rig.remember()
    is_due(rig)
    assert (await rig.ask(Place.LOCAL)).outcome is Outcome.LOCAL
    assert (await rig.ask(Place.SPLIT, budget_ms=600)).outcome is Outcome.RESUMED
    assert (await rig.ask(Place.TRACK)).outcome is Outcome.TRACKED
    assert rig.parts.variants == ["", ""], "a run for a frame, and a head: nothing else"


async def test_nothing_is_audited_before_it_is_due_or_while_the_device_is_busy(rig: Rig) -> None:
    await answered(rig, Place.FRAME)
    assert not rig.parts.variants
    is_due(rig)
    rig.parts.gates["full"].clear()
    here = rig.run(rig.frame(Place.LOCAL, budget_ms=5_000))
    await until(rig.parts.entered["full"].is_set)
    await answered(rig, Place.FRAME)
    rig.parts.gates["full"].set()
    await asyncio.wait_for(here, 10)
    assert rig.parts.variants == [""] and rig.world.fidelity.audits == 0


async def test_a_frame_that_needs_the_device_ends_the_audit(rig: Rig) -> None:
    is_due(rig)
    rig.parts.gates["full"].clear()
    await answered(rig, Place.FRAME)
    await until(rig.parts.entered["full"].is_set)
    await answered(rig, Place.SPLIT)
    assert rig.parts.cancelled == ["full"]
    assert rig.records()[-1].outcome is Outcome.SPLIT
    assert rig.world.fidelity.audits == 0


async def test_an_audit_counts_as_backlog_only_for_what_of_it_cannot_be_cut_short(rig: Rig) -> None:
    is_due(rig)
    rig.parts.gates["full"].clear()
    await answered(rig, Place.FRAME)
    await until(rig.parts.entered["full"].is_set)
    work, now_ns = rig.pipeline._device, time.monotonic_ns()
    rig.device.slowdown = 1e6
    assert work.backlog_ms(now_ns) == 0
    rig.device.slowdown = 1.0
    assert 0 < work.backlog_ms(work._spare.started_ns) <= POINTS[Place.LOCAL].edge_ms


async def test_buffers_go_back_once_the_audit_has_left_them(rig: Rig) -> None:
    is_due(rig)
    rig.parts.gates["full"].clear()
    frame = await answered(rig, Place.FRAME)
    assert frame.prepared._buffers is not None
    rig.parts.gates["full"].set()
    await until(lambda: frame.prepared._buffers is None)


async def test_an_audit_that_fails_costs_nobody_anything(rig: Rig) -> None:
    is_due(rig)
    rig.parts.failures["full"] = InferenceError("output x of y holds NaN or Inf")
    frame = await answered(rig, Place.FRAME)
    await until(lambda: frame.prepared._buffers is None)
    assert rig.world.fidelity.audits == 0 and not frame.notes
    assert (await answered(rig, Place.FRAME)).frame_id != frame.frame_id


async def test_audits_are_counted_as_what_the_device_ran_and_end_with_the_power_budget(rig: Rig) -> None:
    before_ms = rig.world.device_ms
    is_due(rig)
    await answered(rig, Place.FRAME)
    await until(lambda: rig.world.fidelity.audits == 1)
    assert rig.world.device_ms > before_ms
    rig.world.may_spare = False
    is_due(rig)
    await answered(rig, Place.FRAME)
    assert rig.parts.variants == [""], "the first audit's run, and no other"
