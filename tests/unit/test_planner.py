from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path

import numpy as np
import odd_graphs
import onnx
import plan_graphs
import pytest
from plan_graphs import SIZE, classifier_manifest, moving_squares

from splitmesh.codec.registry import FEATURE_CODECS, PICTURE_CODECS
from splitmesh.errors import FrameShapeError, InferenceError, ModelError, OutputError
from splitmesh.frames.normalize import Normalizer
from splitmesh.inference.planning import examine
from splitmesh.inference.planning.make import make_plan
from splitmesh.inference.planning.request import TABLE_CODECS, PlanRequest, plan_key
from splitmesh.inference.planning.stages import STAGES
from splitmesh.inference.planning.tabled import LEVELS
from splitmesh.inference.planning.verify import measure_profile, verify_plan
from splitmesh.inference.profile import device_class, part_timing, take_turns
from splitmesh.inference.session import open_session
from splitmesh.plan.bundle.read import Bundle, read_bundle
from splitmesh.plan.footage import Clip, Footage
from splitmesh.plan.manifest import Manifest
from splitmesh.policy.point import Place


class Seen:
    """Records progress."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, float]] = []

    def __call__(self, stage: str, share: float) -> None:
        self.steps.append((stage, share))

    @property
    def stages(self) -> list[str]:
        return list(dict.fromkeys(stage for stage, _ in self.steps))

    def shares(self, stage: str) -> list[float]:
        return [share for name, share in self.steps if name == stage]


def squares(count: int = 20) -> Footage:
    return Footage((Clip(tuple(moving_squares(count)), 100.0),))


def build(
    model: onnx.ModelProto, out: Path, footage: Footage, manifest: Manifest | None = None, **asked: object
) -> Bundle:
    path = plan_graphs.save(model, out.with_suffix(".onnx"))
    request = PlanRequest(path, manifest or classifier_manifest(), providers=("cpu",), **asked)  # type: ignore[arg-type]
    return make_plan(request, footage, out, Seen())


@pytest.fixture(scope="module")
def seen() -> Seen:
    return Seen()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, seen: Seen) -> Bundle:
    folder = tmp_path_factory.mktemp("plan")
    path = plan_graphs.save(plan_graphs.residual_classifier(), folder / "tiny.onnx")
    footage = Footage((*squares(20).clips, Clip(tuple(moving_squares(9)), None)))
    request = PlanRequest(path, classifier_manifest(), providers=("cpu",), notes=("a guess",), device_class="here")
    return make_plan(request, footage, folder / "tiny.plan", seen)


def test_a_plan_has_cuts_rows_and_points(made: Bundle) -> None:
    plan = made.plan
    assert 3 <= len(made.cuts) <= 4
    for cut in made.cuts:
        assert cut.parity_max_rel <= 1e-4 and cut.deterministic and cut.batchable
    assert plan.deterministic and plan.batchable and plan.calibrated
    assert (plan.frames.parity, plan.frames.fit, plan.frames.evaluate) == (16, 6 + 3, 20)
    levels = sum(map(len, FEATURE_CODECS.values()))
    plain = [row for row in plan.rows if row.codec not in TABLE_CODECS]
    assert len(plain) == levels * len(made.cuts) + sum(map(len, PICTURE_CODECS.values()))
    for row in plan.rows:
        assert 0 < row.bytes_mean <= row.bytes_p95 * 1.5 and row.metrics.keys() == {"top1", "top5", "kl"}
        assert sum(part.frames for part in row.bins) == (14 if row.codec == "temporal" else 20)
        assert (row.key_bytes > 0) == (row.codec == "temporal")
        assert row.codec == "temporal" or {part.motion for part in row.bins} == {"moving", "still", "any"}
    assert plan.notes[0] == "a guess"
    assert len(plan.strip.ops) == len(plan.strip.elements) == plan.frontiers
    assert plan.tools.keys() == {"splitmesh", "onnx", "onnxruntime", "numpy"}
    names = [p.name for p in made.points]
    assert names == sorted(names) and {"track", "local"} <= set(names) and len(names) > 4
    assert {p.place for p in made.points} >= {Place.TRACK, Place.LOCAL, Place.SPLIT}


def test_each_cut_has_a_table_and_levels_of_the_codecs_that_need_it(made: Bundle) -> None:
    for cut in made.cuts:
        table = made.table(cut.name)
        assert table is not None and table.id == cut.table_id == made.plan.files[f"parts/{cut.name}.table"]
        assert table.temporal_model is not None
        levels = {codec: {row.level for row in made.plan.rows if (row.cut, row.codec) == (cut.name, codec)}
                  for codec in TABLE_CODECS}  # fmt: skip
        assert levels["compact"] == levels["temporal"] and 2 <= len(levels["compact"]) <= LEVELS


def test_a_damaged_table_is_refused(made: Bundle, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(made.folder, tmp_path / "copy.plan"))
    name = made.cuts[0].name
    data = (copied / f"parts/{name}.table").read_bytes()
    for damaged in (data[:-1], made.folder.joinpath(f"parts/{made.cuts[1].name}.table").read_bytes()):
        (copied / f"parts/{name}.table").write_bytes(damaged)
        with pytest.raises(ModelError, match="table"):
            read_bundle(copied)
        with pytest.raises(ModelError, match="table"):
            read_bundle(copied, verify=False).table(name)
    assert read_bundle(copied, verify=False).table(made.cuts[1].name) is not None


@pytest.mark.parametrize(("count", "note"), [(2, "no frame is left"), (9, "only 3 frames"), (30, "")])
def test_few_frames_to_fit_to_are_said(tmp_path: Path, count: int, note: str) -> None:
    bundle = build(plan_graphs.residual_classifier(), tmp_path / "few.plan", squares(count))
    said = [text for text in bundle.plan.notes if "calibration tables" in text]
    assert bool(said) == bool(note) and all(note in text for text in said)
    assert all((bundle.table(cut.name) is None) == (count == 2) for cut in bundle.cuts)


def test_finest_levels_are_faithful_and_sizes_fall_with_the_level(made: Bundle) -> None:
    for cut in [*(c.name for c in made.cuts), ""]:
        for codec in {r.codec for r in made.plan.rows if r.cut == cut}:
            mine = sorted((r for r in made.plan.rows if (r.cut, r.codec) == (cut, codec)), key=lambda r: r.level)
            slack = 1.15 if codec in TABLE_CODECS else 1.0  # payloads of a few bytes
            assert all(low.bytes_mean <= slack * high.bytes_mean for low, high in itertools.pairwise(mine))
            assert mine[-1].fidelity >= 0.9


def test_each_stage_is_told_from_its_begin_to_its_end(made: Bundle, seen: Seen) -> None:
    assert seen.stages == [name for name in STAGES if name not in ("quantise", "small")]
    for name in seen.stages:
        shares = seen.shares(name)
        assert shares[0] == 0.0 and shares[-1] == 1.0 and shares == sorted(shares)


def test_head_then_tail_from_the_folder_equal_the_whole(made: Bundle) -> None:
    given = {"image": Normalizer.from_manifest(made.manifest).normalize(moving_squares(1)[0])}
    whole = open_session(made.full_path).run(given)
    for cut in made.cuts:
        between = open_session(made.head_path(cut.name)).run(given)
        assert {name: value.shape for name, value in between.items()} == cut.shapes
        resumed = open_session(made.tail_path(cut.name)).run(between)
        np.testing.assert_allclose(resumed["logits"], whole["logits"], rtol=1e-4)
    assert made.postprocess()(whole).classes[0] == np.argmax(whole["logits"])


def test_tails_take_batches(made: Bundle) -> None:
    normalizer = Normalizer.from_manifest(made.manifest)
    cut = made.cuts[0]
    head, tail = open_session(made.head_path(cut.name)), open_session(made.tail_path(cut.name))
    singles = [head.run({"image": normalizer.normalize(picture)}) for picture in moving_squares(3)]
    stacked = {name: np.concatenate([one[name] for one in singles]) for name in cut.shapes}
    alone = np.concatenate([tail.run(one)["logits"] for one in singles])
    np.testing.assert_allclose(tail.run(stacked)["logits"], alone, rtol=1e-4, atol=1e-6)
    assert {f"tail {cut.name} b{n}" for n in (2, 4, 8)} <= made.profiles["here"].times.keys()


def test_the_profile_knows_every_part_and_point(made: Bundle) -> None:
    profile = made.profile
    assert profile is not None and profile.device_class == "here" and profile.threads == 1
    needed = {"full", *(f"{half} {cut.name}" for half in ("head", "tail") for cut in made.cuts)}
    needed |= {f"{step} {row.point}" for step in ("encode", "decode") for row in made.plan.rows}
    assert needed <= profile.times.keys()
    assert all(0 < t.p50_ms <= t.p95_ms and t.runs >= 3 for t in profile.times.values())


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = (
        build(plan_graphs.residual_classifier(), tmp_path / name, squares(6)).folder for name in ("a.plan", "b.plan")
    )
    names = sorted(p.relative_to(one).as_posix() for p in one.rglob("*") if p.is_file() and "profiles" not in p.parts)
    assert names == sorted(
        p.relative_to(two).as_posix() for p in two.rglob("*") if p.is_file() and "profiles" not in p.parts
    )
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_a_worker_without_footage_holds_every_cut_that_an_edge_may_keep(made: Bundle, tmp_path: Path) -> None:
    seen = Seen()
    path = plan_graphs.save(plan_graphs.residual_classifier(), tmp_path / "tiny.onnx")
    parts = make_plan(PlanRequest(path, classifier_manifest()), Footage(), tmp_path / "parts.plan", seen)
    assert not parts.plan.calibrated and parts.points == () and parts.plan.rows == () and not parts.profiles
    assert parts.plan.frames.parity == 0 and parts.plan.key.parts_match(made.plan.key)
    assert {c.name for c in made.cuts} <= {c.name for c in parts.cuts}
    assert seen.stages == [*STAGES[: STAGES.index("screen")], "write"]
    theirs = {c.name: c for c in parts.cuts}
    assert all(theirs[c.name].tensors == c.tensors for c in made.cuts)


def test_the_key_tells_what_a_plan_was_made_of(made: Bundle) -> None:
    path = made.folder.parent / "tiny.onnx"
    footage = Footage((*squares(20).clips, Clip(tuple(moving_squares(9)), None)))
    assert plan_key(PlanRequest(path, classifier_manifest()), footage) == made.plan.key
    assert plan_key(PlanRequest(path, classifier_manifest(name="other")), footage) != made.plan.key
    assert plan_key(PlanRequest(path, classifier_manifest()), squares()) != made.plan.key


def _altered_bias(tail: onnx.ModelProto) -> None:
    bias = next(t for t in tail.graph.initializer if t.name == "head_b")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 1, "head_b"))


def _nan_bias(tail: onnx.ModelProto) -> None:
    bias = next(t for t in tail.graph.initializer if t.name == "head_b")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(10, np.nan, np.float32), "head_b"))


def _impossible_reshape(tail: onnx.ModelProto) -> None:
    """Fails while it runs: 10 logits can't become 7."""
    tail.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 7], np.int64), "seven"))
    last = tail.graph.node[-1]
    last.output[0] = "logits_before"
    tail.graph.node.append(onnx.helper.make_node("Reshape", ["logits_before", "seven"], ["logits"]))


def _no_such_operator(tail: onnx.ModelProto) -> None:
    tail.graph.node[0].op_type = "Unheard"


def _fewer_classes(tail: onnx.ModelProto) -> None:
    """Another shape than the whole's, and the graph says so."""
    for name, keep in (("head_w", (slice(None), slice(9))), ("head_b", slice(9))):
        weight = next(t for t in tail.graph.initializer if t.name == name)
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight)[keep], name))
    tail.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 9


@pytest.mark.parametrize(
    ("sabotage", "words"),
    [
        (_altered_bias, "off the whole model, limit 1e-04"),
        (_nan_bias, "do not run: output logits of .*tail.* holds NaN or Inf"),
        (_impossible_reshape, "its parts (do not run|can't be made)"),
        (_no_such_operator, "its parts can't be made: model .*tail.onnx can't be loaded"),
        (_fewer_classes, "output logits is 1x9, that of the whole model 1x10 on frame 1 of clip 1"),
    ],
)
def test_a_broken_tail_is_rejected_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sabotage, words: str
) -> None:
    split = examine.split_model
    victims: list[str] = []

    def spoilt(whole: onnx.ModelProto, cut):
        head, tail = split(whole, cut)
        if not victims or cut.name in victims:
            victims.append(cut.name)
            sabotage(tail)
        return head, tail

    monkeypatch.setattr(examine, "split_model", spoilt)
    bundle = build(plan_graphs.residual_classifier(), tmp_path / "x.plan", squares(4))
    (rejected,) = [r for r in bundle.plan.rejected if r.stage == "parity"]
    assert rejected.name == victims[0]
    assert re.search(words, rejected.reason), rejected.reason
    assert not [p for p in bundle.folder.rglob("*") if p.name.startswith(f"{rejected.name}.")]
    assert bundle.cuts and rejected.name not in " ".join(p.name for p in bundle.points)


def test_a_file_that_changed_behind_the_plan_shows_when_it_is_verified(made: Bundle, tmp_path: Path) -> None:
    copied = read_bundle(shutil.copytree(made.folder, tmp_path / "copy.plan"))
    verdicts = verify_plan(copied, squares(), providers=("cpu",), progress=Seen())
    assert [v.cut for v in verdicts] == [c.name for c in made.cuts]
    assert all(v.holds and v.max_rel <= v.limit == 1e-4 and v.frames == 16 and v.deterministic for v in verdicts)
    first, second, *rest = made.cuts
    for path in copied.folder.glob(f"parts/{first.name}.tail*.onnx"):
        tail = onnx.load(path, load_external_data=False)
        _altered_bias(tail)
        path.write_bytes(tail.SerializeToString())
    for path in copied.folder.glob(f"parts/{second.name}.head*.onnx"):
        path.write_bytes(b"damaged")
    verdicts = verify_plan(copied, Footage(), providers=("cpu",), progress=Seen())
    assert "off the whole model" in verdicts[0].reason and verdicts[0].max_rel > 1e-4
    assert "can't be loaded" in verdicts[1].reason and not np.isfinite(verdicts[1].max_rel)
    assert all(v.holds and v.frames == 4 for v in verdicts[2:]) and len(verdicts) == 2 + len(rest)


def test_a_plan_is_profiled_again_for_another_device_class(made: Bundle, tmp_path: Path) -> None:
    copied = read_bundle(shutil.copytree(made.folder, tmp_path / "copy.plan"))
    root = (copied.folder / "plan.pb").read_bytes()
    seen = Seen()
    again = measure_profile(
        copied, Footage(), device_class="slow", threads=2, providers=("cpu",), edge_slowdown=3.0, progress=seen
    )
    assert set(again.profiles) == {"here", "slow"} and (copied.folder / "plan.pb").read_bytes() == root
    assert again.profile is not None and again.profile.device_class == "slow" and again.threads == 2
    assert again.profile.times.keys() == made.profiles["here"].times.keys()
    local = next(p for p in again.points if p.name == "local")
    assert local.edge_ms == pytest.approx(3 * again.profile.times["full"].p50_ms)
    assert seen.stages == ["profile"] and seen.shares("profile")[-1] == 1.0


def test_a_model_without_a_cut_still_has_a_plan(tmp_path: Path) -> None:
    bundle = build(odd_graphs.uncut(), tmp_path / "x.plan", squares(6))
    assert bundle.cuts == () and bundle.plan.notes == (
        "no legal cut: the model is never split, it runs on the edge or on the worker as a whole",
        "only 4 frames to measure fidelity on: it is rough, 24 are better",
    )
    assert {p.place for p in bundle.points} == {Place.TRACK, Place.LOCAL, Place.FRAME}


def test_vectors_are_cut_like_any_tensor(tmp_path: Path) -> None:
    bundle = build(odd_graphs.layers(), tmp_path / "x.plan", squares())
    vectors = [c for c in bundle.cuts if all(len(t.shape) == 2 for t in c.tensors)]
    assert vectors
    rows = [r for r in bundle.plan.rows if r.cut == vectors[0].name]
    assert (
        sum(r.codec not in TABLE_CODECS for r in rows) == 10
        and max(r.bytes_mean for r in rows) < 1000
        and max(r.fidelity for r in rows) > 0.9
    )


def test_answers_of_whole_numbers_are_compared_by_their_share(tmp_path: Path) -> None:
    bundle = build(odd_graphs.label_map(), tmp_path / "x.plan", squares(), odd_graphs.label_map_manifest())
    assert bundle.cuts and all(c.parity_max_rel <= 1e-4 for c in bundle.cuts)
    assert {name for r in bundle.plan.rows for name in r.metrics} == {"miou"}


def test_a_changing_number_of_boxes_is_no_obstacle(tmp_path: Path) -> None:
    bundle = build(odd_graphs.suppressed(), tmp_path / "x.plan", squares(), odd_graphs.suppressed_manifest())
    session = open_session(bundle.full_path)
    normalizer = Normalizer.from_manifest(bundle.manifest)
    counts = {len(session.run({"image": normalizer.normalize(p)})["rows"]) for p in moving_squares(20)}
    assert len(counts) > 1, "the model must find more on one frame than on another"
    assert bundle.cuts and all(c.parity_max_rel <= 1e-4 for c in bundle.cuts)
    assert bundle.plan.track_samples > 0


def test_nan_of_the_model_itself_names_frame_and_output(tmp_path: Path) -> None:
    pictures = moving_squares(6)
    pictures[3][:] = 255
    footage = Footage((Clip(tuple(moving_squares(3)), 100.0), Clip(tuple(pictures), None)))
    with pytest.raises(InferenceError, match=r"frame 4 of clip 2: output logits of .*x.onnx holds NaN or Inf"):
        build(odd_graphs.nan_on_white(), tmp_path / "x.plan", footage)
    assert not (tmp_path / "x.plan").exists()


def test_cuts_that_no_message_holds_are_rejected(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1, 1024, 1024, 3)).astype(np.uint8)
    manifest = classifier_manifest(width=1024, height=1024)
    bundle = build(odd_graphs.wide(), tmp_path / "x.plan", Footage((Clip(tuple(noise), None),)), manifest)
    rejected = [r for r in bundle.plan.rejected if r.stage == "screen"]
    assert rejected and all(
        re.fullmatch(r"sends \d\.\d MB a frame, a message holds 0\.9", r.reason) for r in rejected
    )
    assert not {r.name for r in rejected} & {c.name for c in bundle.cuts}


def test_few_frames_are_said_to_be_few(tmp_path: Path) -> None:
    bundle = build(plan_graphs.residual_classifier(), tmp_path / "x.plan", squares(1))
    assert any("only 1 frames" in note for note in bundle.plan.notes)
    frames = bundle.plan.frames
    assert (frames.parity, frames.fit, frames.evaluate) == (1, 0, 1), "made-up pictures do not count"


def test_clips_are_pooled_for_tracking_and_stills_left_out(tmp_path: Path) -> None:
    video = squares(20).clips[0]
    stills = Clip(tuple(moving_squares(8)), None)
    counts = [
        build(plan_graphs.residual_classifier(), tmp_path / f"{i}.plan", Footage(clips)).plan.track_samples
        for i, clips in enumerate([(video,), (video, stills, video), (stills,)])
    ]
    assert counts[0] > 0 and counts[1] == 2 * counts[0] and counts[2] == 0


def test_open_sizes_take_the_manifest_s(made: Bundle, tmp_path: Path) -> None:
    bundle = build(plan_graphs.residual_classifier(batch="N", open_size=True), tmp_path / "open.plan", squares(4))
    assert {c.name for c in bundle.cuts} & {c.name for c in made.cuts}


def test_nothing_is_left_behind_when_a_build_fails(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="picture"):
        build(
            plan_graphs.residual_classifier(), tmp_path / "x.plan", squares(2), classifier_manifest(input="picture")
        )
    assert {p.name for p in tmp_path.iterdir()} == {"x.onnx"}


def test_a_folder_that_is_no_plan_is_never_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "cat.jpg").write_bytes(b"meow")
    with pytest.raises(OutputError, match="is no plan folder"):
        build(plan_graphs.residual_classifier(), precious, squares(2))
    assert (precious / "cat.jpg").read_bytes() == b"meow"


def test_wrong_frames_and_models_are_named(tmp_path: Path) -> None:
    small = Footage((Clip((moving_squares(1)[0][:47],), None),))
    with pytest.raises(FrameShapeError, match=rf"frame 1 of clip 1 is \(47, {SIZE}, 3\) uint8, the model takes"):
        build(plan_graphs.residual_classifier(), tmp_path / "x.plan", small)
    for name, data in (("absent", None), ("broken", b"no model")):
        path = tmp_path / f"{name}.onnx"
        if data:
            path.write_bytes(data)
        with pytest.raises(ModelError, match=rf"{name}\.onnx"):
            make_plan(PlanRequest(path, classifier_manifest()), squares(2), tmp_path / "y.plan", Seen())


def test_calls_take_turns_and_stop_at_their_budget() -> None:
    order: list[str] = []
    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    found = take_turns(calls, runs=4, warmup=1)
    assert order == ["a", "b"] + ["a", "b"] * 4 and [len(found[name]) for name in calls] == [4, 4]
    assert len(take_turns({"a": lambda: None}, runs=50, budget_s=0.0)["a"]) == 3


def test_quantiles_may_be_freed_of_the_machine_s_drift() -> None:
    plain, scaled = part_timing([1.0, 2.0, 9.0]), part_timing([1.0, 2.0, 9.0], scale=0.5)
    assert (plain.p50_ms, plain.runs) == (2.0, 3) and plain.p95_ms > 8
    assert (scaled.p50_ms, scaled.p95_ms) == (1.0, pytest.approx(plain.p95_ms / 2))
    assert part_timing([]).runs == 0


@pytest.mark.parametrize("device", ["cpu/x86_64/AMD EPYC 7B13 Processor/2", "cuda/aarch64/Tegra/6", "?" * 200])
def test_device_classes_are_names_of_files(device: str) -> None:
    name = device_class(device, 2)
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name) and name.endswith("t2")
