from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import onnx
import plan_graphs
import pytest
from plan_graphs import classifier_manifest, moving_squares

from splitmesh.codec.registry import FEATURE_CODECS, PICTURE_CODECS
from splitmesh.errors import FrameShapeError, ModelError, OutputError
from splitmesh.frames.normalize import Normalizer
from splitmesh.inference.planning import builder as planner
from splitmesh.inference.planning.builder import ensure_plan
from splitmesh.inference.profile import profile_parts, timing
from splitmesh.inference.session import open_session
from splitmesh.plan.bundle.old_read import Bundle, read_bundle, summarize
from splitmesh.policy.point import Place


class Seen:
    """Records progress."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, float]] = []

    def __call__(self, stage: str, fraction: float) -> None:
        self.steps.append((stage, fraction))

    @property
    def stages(self) -> list[str]:
        return list(dict.fromkeys(stage for stage, _ in self.steps))


def build(model: Path, out: Path, count: int = 20, **options: object) -> tuple[Bundle, Seen]:
    seen = Seen()
    bundle = ensure_plan(model, classifier_manifest(), moving_squares(count), out, progress=seen, **options)
    return bundle, seen


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle, Seen]:
    folder = tmp_path_factory.mktemp("plan")
    model = plan_graphs.save(plan_graphs.residual_classifier(), folder / "tiny.onnx")
    return model, *build(model, folder / "tiny.plan")


@pytest.fixture
def copied(made: tuple[Path, Bundle, Seen], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[1].folder, tmp_path / "moved" / "copy.plan"))


def test_a_plan_has_cuts_points_and_progress(made: tuple[Path, Bundle, Seen]) -> None:
    _, bundle, seen = made
    assert len(bundle.cuts) >= 3
    assert all(cut.parity_error <= 1e-4 for cut in bundle.cuts)
    names = [p.name for p in bundle.points]
    assert names == sorted(names)
    assert {"track", "local"} <= set(names) and 2 < len(names) <= 18
    for point in bundle.points:
        assert 0 <= point.fidelity <= 1
        if point.place is Place.SPLIT:
            assert point.cut in {c.name for c in bundle.cuts}
            assert point.edge_ms > 0 and point.cloud_ms == point.resume_ms > 0
            assert point.level in FEATURE_CODECS[point.codec]
        if point.place is Place.FRAME:
            assert point.edge_ms == 0 and point.cloud_ms > 0 and point.level in PICTURE_CODECS[point.codec]
        if point.remote:
            assert point.payload_bytes > 0 and point.encode_ms > 0 and point.decode_ms > 0
    levels = sum(map(len, FEATURE_CODECS.values()))
    assert len(bundle.plan.calibration) == levels * len(bundle.cuts) + sum(map(len, PICTURE_CODECS.values()))
    assert bundle.plan.frames == 20 and bundle.plan.track_samples > 0
    assert seen.stages == ["cuts", "parity", "profile", "reference", "calibrate", "track", "write"]
    shares = [fraction for _, fraction in seen.steps]
    assert shares == sorted(shares) and shares[0] == 0.0 and shares[-1] == 1.0


def test_head_then_tail_from_the_folder_equal_the_whole(made: tuple[Path, Bundle, Seen]) -> None:
    _, bundle, _ = made
    given = {"image": Normalizer.from_manifest(bundle.manifest).normalize(moving_squares(1)[0])}
    whole = open_session(bundle.full_path).run(given)
    for cut in bundle.cuts:
        between = open_session(bundle.head_path(cut.name)).run(given)
        assert tuple(between) == cut.tensors
        assert tuple(v.shape for v in between.values()) == cut.shapes
        resumed = open_session(bundle.tail_path(cut.name)).run(between)
        np.testing.assert_allclose(resumed["logits"], whole["logits"], rtol=1e-4)
    answer = bundle.postprocess()(whole)
    assert answer.classes[0] == np.argmax(whole["logits"])


def test_finest_levels_are_faithful_and_sizes_fall_with_the_level(made: tuple[Path, Bundle, Seen]) -> None:
    rows = made[1].plan.calibration
    for cut in {r["cut"] for r in rows}:
        for codec in {r["codec"] for r in rows if r["cut"] == cut}:
            mine = [r for r in rows if r["cut"] == cut and r["codec"] == codec]
            sizes = [r["payload_bytes"] for r in sorted(mine, key=lambda r: r["level"])]
            assert sizes == sorted(sizes)
            assert max(mine, key=lambda r: r["level"])["fidelity"] >= 0.95


def test_a_valid_plan_is_used_again(made: tuple[Path, Bundle, Seen]) -> None:
    model, bundle, _ = made
    before = (bundle.folder / "plan.json").stat().st_mtime_ns
    again, seen = build(model, bundle.folder)
    assert again == bundle
    assert seen.steps == [("reuse", 1.0)]
    assert (bundle.folder / "plan.json").stat().st_mtime_ns == before


def test_other_threads_or_manifest_or_model_build_anew(made: tuple[Path, Bundle, Seen], copied: Path) -> None:
    model = made[0]
    two, seen = build(model, copied, 4, threads=2)
    assert two.threads == 2 and "calibrate" in seen.stages
    seen = Seen()
    renamed = classifier_manifest(name="other-name")
    assert ensure_plan(model, renamed, moving_squares(4), copied, threads=2, progress=seen).manifest == renamed
    assert "calibrate" in seen.stages
    altered = onnx.load(model)
    altered.doc_string = "another file"
    other = plan_graphs.save(altered, copied.parent / "other.onnx")
    bundle, seen = build(other, copied, 4, threads=2)
    assert bundle.sha256 != two.sha256 and "calibrate" in seen.stages


def test_a_worker_builds_the_same_cuts_without_frames(made: tuple[Path, Bundle, Seen], tmp_path: Path) -> None:
    model, bundle, _ = made
    parts = ensure_plan(model, classifier_manifest(), [], tmp_path / "parts.plan", progress=Seen())
    assert not parts.plan.calibrated and parts.points == ()
    assert [c.name for c in parts.cuts] == [c.name for c in bundle.cuts]
    for cut in parts.cuts:
        assert parts.tail_path(cut.name).read_bytes() == bundle.tail_path(cut.name).read_bytes()


def test_a_worker_takes_an_edge_plan_of_any_device_but_not_the_reverse(
    made: tuple[Path, Bundle, Seen], copied: Path, tmp_path: Path
) -> None:
    model = made[0]
    seen = Seen()
    ensure_plan(model, classifier_manifest(), [], copied, threads=7, progress=seen)
    assert seen.stages == ["reuse"]
    ensure_plan(model, classifier_manifest(), [], tmp_path / "parts.plan", progress=Seen())
    calibrated, seen = build(model, tmp_path / "parts.plan", 4)
    assert "calibrate" in seen.stages and calibrated.plan.calibrated


def test_bundles_may_be_moved(copied: Path) -> None:
    bundle = read_bundle(copied)
    open_session(bundle.tail_path(bundle.cuts[0].name))
    texts = (copied / "plan.json").read_text() + (copied / "manifest.json").read_text()
    assert str(copied.parent) not in texts and "/tmp" not in texts


@pytest.mark.parametrize("name", ["full.onnx", "manifest.json", "cuts/{cut}/head.onnx", "cuts/{cut}/tail.onnx"])
def test_altered_and_missing_files_are_named(copied: Path, name: str) -> None:
    path = copied / name.format(cut=read_bundle(copied).cuts[0].name)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match=rf"{path.name} is not the file that plan.json describes .*build it again"):
        read_bundle(copied)
    path.unlink()
    with pytest.raises(ModelError, match=rf"{path.name} is missing"):
        read_bundle(copied)


def test_an_altered_plan_is_built_again(made: tuple[Path, Bundle, Seen], copied: Path) -> None:
    tail = read_bundle(copied).tail_path(made[1].cuts[0].name)
    tail.write_bytes(tail.read_bytes()[:-1])
    bundle, seen = build(made[0], copied, 4)
    assert "calibrate" in seen.stages
    assert read_bundle(copied) == bundle


def _edit(path: Path, change) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["key"].update(format=99), "plan format 99, this version reads 1"),
        (lambda d: d.pop("key"), "plan format None"),
        (lambda d: d.update(surprise=1), "surprise: Extra inputs"),
        (lambda d: d["cuts"][0].update(name="../../etc"), r"cuts\.0\.name: String should match"),
        (lambda d: d["files"].update({"../outside.onnx": "0" * 64}), r"other files than its cuts need: \.\./outside"),
        (lambda d: d["key"].update(model_sha256="0" * 64), "two different models"),
        (lambda d: d.update(track_kappa="fast"), "track_kappa"),
    ],
)
def test_a_plan_that_lies_is_refused(copied: Path, change, words: str) -> None:
    _edit(copied / "plan.json", change)
    with pytest.raises(ModelError, match=words):
        read_bundle(copied)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_plan_json_that_is_no_plan_is_refused(copied: Path, text: str) -> None:
    (copied / "plan.json").write_text(text)
    with pytest.raises(ModelError, match=r"plan\.json"):
        read_bundle(copied)


def test_an_absent_plan_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="splitmesh plan"):
        read_bundle(tmp_path / "none.plan")


def test_unknown_cuts_are_named(made: tuple[Path, Bundle, Seen]) -> None:
    with pytest.raises(ModelError, match=r"no cut 'n0-x', only n\d+"):
        made[1].tail_path("n0-x")


def test_summary_has_one_row_per_point(made: tuple[Path, Bundle, Seen]) -> None:
    rows = summarize(made[1])
    assert [r["point"] for r in rows] == [p.name for p in made[1].points]
    assert len({tuple(r) for r in rows}) == 1


def test_nothing_is_left_behind_when_a_build_fails(tmp_path: Path) -> None:
    model = plan_graphs.save(plan_graphs.residual_classifier(), tmp_path / "tiny.onnx")
    wrong = classifier_manifest(input="picture")
    with pytest.raises(ModelError, match="picture"):
        ensure_plan(model, wrong, moving_squares(2), tmp_path / "x.plan", progress=Seen())
    assert {p.name for p in tmp_path.iterdir()} == {"tiny.onnx", ".x.plan.lock"}


def test_a_folder_that_is_no_plan_is_never_replaced(tmp_path: Path) -> None:
    model = plan_graphs.save(plan_graphs.residual_classifier(), tmp_path / "tiny.onnx")
    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "cat.jpg").write_bytes(b"meow")
    with pytest.raises(OutputError, match="is no plan folder"):
        build(model, precious, 2)
    assert (precious / "cat.jpg").read_bytes() == b"meow"


def test_wrong_frames_and_models_are_named(tmp_path: Path) -> None:
    model = plan_graphs.save(plan_graphs.residual_classifier(), tmp_path / "tiny.onnx")
    with pytest.raises(FrameShapeError, match=r"\(47, 48, 3\) uint8, tiny-classifier takes \(48, 48, 3\)"):
        ensure_plan(model, classifier_manifest(), [moving_squares(1)[0][:47]], tmp_path / "x", progress=Seen())
    with pytest.raises(ModelError, match=r"absent\.onnx"):
        build(tmp_path / "absent.onnx", tmp_path / "x")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        build(broken, tmp_path / "x")


def test_a_cut_without_parity_is_dropped_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = plan_graphs.save(plan_graphs.residual_classifier(), tmp_path / "tiny.onnx")
    split = planner.split_model

    def sabotage(whole: onnx.ModelProto, cut):
        head, tail = split(whole, cut)
        if list(cut.shapes) == ["down1_relu"]:
            bias = next(t for t in tail.graph.initializer if t.name == "head_b")
            bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 1, "head_b"))
        return head, tail

    monkeypatch.setattr(planner, "split_model", sabotage)
    bundle, _ = build(model, tmp_path / "x.plan", 4)
    (dropped,) = bundle.plan.dropped
    assert "off the whole model, limit 1e-04" in dropped.reason
    assert dropped.name not in {c.name for c in bundle.cuts}
    assert not (bundle.folder / "cuts" / dropped.name).exists()
    assert dropped.name not in " ".join(p.name for p in bundle.points)


def test_open_sizes_take_the_manifest_s(made: tuple[Path, Bundle, Seen], tmp_path: Path) -> None:
    model = plan_graphs.save(plan_graphs.residual_classifier(batch="N", open_size=True), tmp_path / "open.onnx")
    bundle, _ = build(model, tmp_path / "open.plan", 4)
    assert [c.name for c in bundle.cuts] == [c.name for c in made[1].cuts]


def test_a_valid_plan_is_used_from_a_folder_that_can_t_be_written(
    made: tuple[Path, Bundle, Seen], copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "locked", lambda out: pytest.fail("asked for the lock"))
    assert build(made[0], copied)[1].stages == ["reuse"]


def test_what_a_killed_builder_left_is_removed(tmp_path: Path) -> None:
    model = plan_graphs.save(plan_graphs.residual_classifier(), tmp_path / "tiny.onnx")
    (tmp_path / ".x.plan.dead1234" / "cuts").mkdir(parents=True)
    build(model, tmp_path / "x.plan", 4)
    assert {p.name for p in tmp_path.iterdir()} == {"tiny.onnx", "x.plan", ".x.plan.lock"}


def test_two_builders_of_one_folder_build_once(tmp_path: Path) -> None:
    model = plan_graphs.save(plan_graphs.residual_classifier(), tmp_path / "tiny.onnx")
    results: list[tuple[Bundle, Seen]] = []

    def work() -> None:
        results.append(build(model, tmp_path / "x.plan", 4))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2 and results[0][0] == results[1][0]
    assert sorted(seen.stages[0] for _, seen in results) == ["cuts", "reuse"]


def test_profile_takes_turns_and_stops_at_its_budget() -> None:
    order: list[str] = []
    made = profile_parts({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, runs=4, warmup=1)
    assert order == ["a", "b"] + ["a", "b"] * 4
    assert made["a"].runs == 4 and 0 <= made["a"].p50_ms <= made["a"].p95_ms
    assert profile_parts({"a": lambda: None}, runs=50, budget_s=0.0)["a"].runs == 3
    assert timing([]).runs == 0
