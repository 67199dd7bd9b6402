"""Quantised and smaller models of a plan: what is measured of them, which are kept, and what each device times."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper
from plan_graphs import classifier_manifest, moving_squares, quantised, residual_classifier, save

from splitmesh.codec.registry import FEATURE_CODECS
from splitmesh.errors import InferenceError, ModelError
from splitmesh.frames.normalize import Normalizer
from splitmesh.inference import profile
from splitmesh.inference.energy import EnergyMeter
from splitmesh.inference.planning import make, variants
from splitmesh.inference.planning.make import make_plan
from splitmesh.inference.planning.request import PlanRequest, SmallModel, patience_of, plan_key
from splitmesh.inference.planning.verify import measure_profile
from splitmesh.inference.profile import energy_of_run_mj
from splitmesh.inference.session import open_session
from splitmesh.plan.bundle.read import Bundle, read_bundle
from splitmesh.plan.footage import Clip, Footage
from splitmesh.policy.point import Place

LABELS = [f"label {i}" for i in range(10)]
ORDER = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]


def squares(count: int = 30) -> Footage:
    return Footage((Clip(tuple(moving_squares(count)), 100.0),))


def with_head(change: object) -> ModelProto:
    """The classifier with other weights in its last layer. change: of (…, 10) arrays."""
    model = residual_classifier()
    for tensor in model.graph.initializer:
        if tensor.name in ("head_w", "head_b"):
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))  # type: ignore[operator]
    return model


def in_other_order(folder: Path) -> SmallModel:
    """A model that finds the same, in classes of another order, and one that nobody else knows."""
    path = save(with_head(lambda weights: np.ascontiguousarray(weights[..., ORDER])), folder / "little.onnx")
    return SmallModel(path, classifier_manifest(name="little", labels=[LABELS[i].upper() for i in ORDER]))


def asked(folder: Path, model: ModelProto | None = None, **changes: object) -> PlanRequest:
    path = save(model or residual_classifier(), folder / "tiny.onnx")
    return PlanRequest(path, classifier_manifest(), providers=("cpu",), device_class="here", **changes)  # type: ignore[arg-type]


def build(request: PlanRequest, out: Path, footage: Footage | None = None) -> Bundle:
    return make_plan(request, squares() if footage is None else footage, out, lambda *_: None)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def made(home: Path) -> Bundle:
    return build(asked(home, int8=True, small=in_other_order(home)), home / "varied.plan")


def test_every_variant_has_rows_files_and_times(made: Bundle) -> None:
    rows = [row for row in made.plan.rows if row.variant]
    cuts = {cut.name for cut in made.cuts}
    levels = sum(map(len, FEATURE_CODECS.values()))
    assert [row.point for row in rows if not row.cut] == ["local/int8", "local/small"]
    assert len(rows) == 2 + levels * len(cuts) and {row.cut for row in rows} == {"", *cuts}
    assert all(row.metrics.keys() == {"top1", "top5"} | ({"kl"} if row.variant == "int8" else set()) for row in rows)
    assert all(row.bytes_mean == row.bytes_p95 == 0 for row in rows if not row.cut)
    assert made.profile is not None
    timed = {"full int8", "full small", *(f"head {cut} int8" for cut in cuts)}
    assert timed <= made.profile.times.keys()
    names = {path.name for path in (made.folder / "parts").iterdir()}
    assert {"full.int8.onnx", "small.onnx", *(f"{cut}.head.int8.onnx" for cut in cuts)} <= names
    assert (made.folder / "small.json").is_file() and not (made.folder / "small.npy").exists()
    assert not [name for name in names if "tail.int8" in name]


def test_quantised_parts_give_nearly_what_the_plain_ones_give(made: Bundle) -> None:
    given = {"image": Normalizer.from_manifest(made.manifest).normalize(moving_squares(25)[-1])}
    wanted = open_session(made.full_path).run(given)["logits"]
    found = open_session(made.local_path("int8")).run(given)["logits"]
    assert 0 < np.abs(found - wanted).max() < 0.2 * np.abs(wanted).max()
    for cut in made.cuts:
        tensors = open_session(made.head_path(cut.name, "int8")).run(given)
        assert {name: value.shape for name, value in tensors.items()} == cut.shapes
        resumed = open_session(made.tail_path(cut.name)).run(tensors)["logits"]
        assert np.abs(resumed - wanted).max() < 0.2 * np.abs(wanted).max()


def test_the_smaller_model_answers_in_the_classes_of_the_model(made: Bundle) -> None:
    row = next(row for row in made.plan.rows if row.variant == "small")
    assert row.agreement == 1.0 and 0.98 < row.fidelity < 1.0
    given = {"image": Normalizer.from_manifest(made.manifest).normalize(moving_squares(1)[0])}
    wanted = made.postprocess()(open_session(made.full_path).run(given))
    found = made.postprocess("small")(open_session(made.local_path("small")).run(given))
    assert list(found.classes) == list(wanted.classes)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-4)


def test_what_is_faster_is_offered_and_what_is_not_is_not(made: Bundle) -> None:
    assert made.profile is not None
    cut = made.cuts[0].name
    slow = {name: timing.model_copy(update={"p50_ms": 100.0}) for name, timing in made.profile.times.items()}

    def points(**quick: float) -> set[str]:
        times = slow | {name: slow[name].model_copy(update={"p50_ms": ms}) for name, ms in quick.items()}
        assert made.profile is not None
        bundle = made.with_profile(made.profile.model_copy(update={"times": times}))
        return {point.name for point in bundle.points if point.variant}

    assert points() == set()
    assert points(**{"full int8": 50.0}) == {"local/int8"}
    heads = points(**{"full small": 50.0, f"head {cut} int8": 40.0})
    assert "local/small" in heads and len(heads) > 1
    assert all(name.startswith(f"split/{cut}+int8/") for name in heads - {"local/small"})
    offered = made.with_profile(
        made.profile.model_copy(
            update={"times": slow | {f"head {cut} int8": slow["full"].model_copy(update={"p50_ms": 40.0})}}
        )
    )
    point = next(p for p in offered.points if p.variant)
    assert (point.place, point.cut, point.edge_ms, point.encode_ms) == (Place.SPLIT, cut, 40.0, 100.0)


def test_the_same_inputs_give_the_same_bytes(made: Bundle, home: Path) -> None:
    again = build(asked(home, int8=True, small=in_other_order(home)), home / "again.plan")
    assert again.plan.files == made.plan.files
    assert again.plan_sha256 == made.plan_sha256


def test_the_key_tells_which_variants_were_asked_for(made: Bundle, home: Path) -> None:
    plain, footage = asked(home), squares()
    little = in_other_order(home)
    keys = [
        plan_key(request, footage)
        for request in (
            plain,
            asked(home, int8=True),
            asked(home, small=little),
            asked(home, small=SmallModel(little.path, classifier_manifest(name="little"))),
            asked(home, int8=True, small=little),
        )
    ]
    patient = plan_key(replace(asked(home, int8=True), patience=4.0), footage)
    assert patient.options == "int8,patience=4" and patience_of(patient.options) == 4.0
    assert patience_of("") == patience_of("int8,small=ab") == 1.0
    assert len({key.options for key in keys}) == 5 and keys[0].options == "" and keys[1].options == "int8"
    assert keys[-1] == made.plan.key
    assert all(key.parts_match(keys[0]) for key in keys)


def test_another_device_times_the_variants_too(made: Bundle, tmp_path: Path) -> None:
    copied = read_bundle(shutil.copytree(made.folder, tmp_path / "copy.plan"))
    again = measure_profile(copied, Footage(), device_class="box", providers=("cpu",), progress=lambda *_: None)
    assert again.profile is not None and made.profile is not None
    assert {name for name in made.profile.times if "int8" not in name or "code" not in name} <= (
        again.profile.times.keys()
    )
    assert {"full int8", "full small", f"head {made.cuts[0].name} int8"} <= again.profile.times.keys()


# -- what is not offered, and why ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "manifest", "footage", "why"),
    [
        (quantised, {"postprocess": {"kind": "tensor"}}, squares(), "it is quantised already"),
        (residual_classifier, {}, squares(2), "all frames are needed to measure fidelity on"),
    ],
)
def test_a_model_that_can_not_be_quantised_is_planned_without(
    tmp_path: Path, model: object, manifest: dict[str, object], footage: Footage, why: str
) -> None:
    path = save(model(), tmp_path / "x.onnx")  # type: ignore[operator]
    request = PlanRequest(path, classifier_manifest(**manifest), providers=("cpu",), int8=True)
    bundle = build(request, tmp_path / "x.plan", footage)
    assert f"no int8 form is offered: {why}" in bundle.plan.notes
    assert not [row for row in bundle.plan.rows if row.variant] and bundle.points


def test_large_and_slow_models_are_left_alone(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "HEADS_WORK", 1e3)
    bundle = build(asked(home, int8=True), tmp_path / "slow.plan")
    assert [row.point for row in bundle.plan.rows if row.variant] == ["local/int8"]
    assert any(note.startswith("no head is tried in int8: ") for note in bundle.plan.notes)
    monkeypatch.setattr(variants, "MAX_BYTES", 10_000)
    bundle = build(asked(home, int8=True), tmp_path / "large.plan")
    assert not [row for row in bundle.plan.rows if row.variant]
    assert any("of weights takes more memory than a plan may" in note for note in bundle.plan.notes)


def test_a_form_that_loses_the_answer_leaves_no_file(tmp_path: Path, home: Path) -> None:
    """Ranges are fitted to a grey wall. All that differs from it saturates, and only the wall's class is found."""
    pictures = moving_squares(30)
    for picture in pictures[:10]:
        picture[:] = 128
    session = open_session(save(residual_classifier(), tmp_path / "x.onnx"))
    normalizer = Normalizer.from_manifest(classifier_manifest())
    wall, other = (session.run({"image": normalizer.normalize(pictures[i])})["logits"][0] for i in (0, 20))
    least = np.where(np.arange(10) == np.argmin(other - wall), 0.01, 0).astype(np.float32)
    model = with_head(lambda weights: weights if weights.ndim == 2 else weights - wall + least)
    bundle = build(
        asked(tmp_path, model, int8=True), tmp_path / "dark.plan", Footage((Clip(tuple(pictures), 100.0),))
    )
    lost = [note for note in bundle.plan.notes if "is not offered in int8: it keeps a fidelity of 0." in note]
    kept = {row.cut or "the whole model" for row in bundle.plan.rows if row.variant}
    assert lost and len(lost) + len(kept) == 1 + len(bundle.cuts)
    assert len([name for name in bundle.plan.files if "int8" in name]) == len(kept)


def test_a_quantiser_that_fails_costs_a_note(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> ModelProto:
        raise ModelError("beyond it")

    monkeypatch.setattr(variants, "quantised_model", failing)
    bundle = build(asked(home, int8=True), tmp_path / "x.plan")
    assert "the whole model has no int8 form: the runtime can't make or run one" in bundle.plan.notes
    assert not [row for row in bundle.plan.rows if row.variant] and not list(bundle.folder.rglob("*int8*"))


def test_a_smaller_model_that_finds_other_things_is_measured_and_not_offered(tmp_path: Path, home: Path) -> None:
    path = save(with_head(lambda weights: -weights), tmp_path / "contrary.onnx")
    small = SmallModel(path, classifier_manifest(name="contrary"))
    bundle = build(asked(home, small=small), tmp_path / "x.plan")
    (row,) = [row for row in bundle.plan.rows if row.variant]
    assert row.agreement == 0 and row.fidelity < 0.2
    assert any(
        f"the smaller model is not offered: it keeps a fidelity of {row.fidelity:.2f}" in n for n in bundle.plan.notes
    )
    assert "local/small" not in {point.name for point in bundle.points}


DETECTOR = {"kind": "detections", "output": "rows"}


@pytest.mark.parametrize(
    ("large", "small", "says"),
    [
        ({}, {"labels": ["cat", "dog"]}, "none in common"),
        ({}, {"postprocess": DETECTOR}, "of kind detections, tiny-classifier of kind classifier"),
        ({"postprocess": {"kind": "tensor"}}, {"postprocess": {"kind": "tensor"}}, "what the outputs of either mean"),
        (
            {"postprocess": {"kind": "segmentation"}},
            {"postprocess": {"kind": "segmentation"}, "labels": LABELS[::-1]},
            "its masks have other labels",
        ),
    ],
)
def test_a_smaller_model_of_another_kind_is_refused_before_any_work(
    tmp_path: Path, large: dict[str, object], small: dict[str, object], says: str
) -> None:
    path = save(residual_classifier(), tmp_path / "x.onnx")
    request = PlanRequest(
        path, classifier_manifest(**large), small=SmallModel(path, classifier_manifest(name="little", **small))
    )
    seen: list[str] = []
    with pytest.raises(ModelError, match=says):
        make_plan(request, squares(), tmp_path / "x.plan", lambda stage, _: seen.append(stage))
    assert seen == [] and not list(tmp_path.glob("*.plan"))


def test_a_smaller_model_that_does_not_run_is_refused_before_any_work(tmp_path: Path) -> None:
    path = save(residual_classifier(), tmp_path / "x.onnx")
    broken = with_head(lambda weights: np.full_like(weights, np.nan))
    small = SmallModel(save(broken, tmp_path / "nan.onnx"), classifier_manifest(name="nan"))
    seen: list[str] = []
    with pytest.raises(InferenceError, match="holds NaN"):
        make_plan(
            PlanRequest(path, classifier_manifest(), small=small),
            squares(),
            tmp_path / "x.plan",
            lambda stage, _: seen.append(stage),
        )
    assert seen == []


# -- energy ----------------------------------------------------------------------------------------------------------


class OneWatt:
    """A counter of a device that always draws one watt: a millijoule is a millisecond."""

    wraps_at_uj = 10**12

    def read_uj(self) -> int:
        return time.perf_counter_ns() // 1000


def one_watt() -> EnergyMeter:
    return EnergyMeter((OneWatt(),), ())  # type: ignore[arg-type]


def test_every_part_has_the_energy_of_a_run(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make, "energy_meter", one_watt)
    monkeypatch.setattr(profile, "ENERGY_MS", 20.0)
    bundle = build(asked(home, int8=True), tmp_path / "x.plan")
    assert bundle.profile is not None
    for name, timing in bundle.profile.times.items():
        if name.startswith(("encode", "decode")) or " b" in name:
            assert timing.energy_mj is None
        else:
            assert timing.energy_mj is not None and 0.2 < timing.energy_mj / timing.p50_ms < 20, name


def test_energy_is_of_one_run_and_unknown_where_the_sensor_does_not_move() -> None:
    calls: list[int] = []

    def busy() -> None:
        calls.append(1)
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass

    energy_mj = energy_of_run_mj(busy, one_watt(), typical_ms=20.0)
    assert len(calls) == 20 and energy_mj is not None and 1.9 < energy_mj < 40

    class Stuck(OneWatt):
        def read_uj(self) -> int:
            return 5

    assert energy_of_run_mj(busy, EnergyMeter((Stuck(),), ()), typical_ms=400.0) is None  # type: ignore[arg-type]
