"""The plan folder on disk: what is written is what is read, and what was tampered with is refused by name."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import plan_folders
import pytest
from plan_graphs import SIZE, classifier_manifest, residual_classifier

from splitmesh.errors import ModelError, OutputError
from splitmesh.inference.session import open_session
from splitmesh.plan.bundle.draft import BundleDraft, add_profile, locked
from splitmesh.plan.bundle.format import parse_plan, plan_bytes
from splitmesh.plan.bundle.read import Bundle, read_bundle
from splitmesh.v1 import plan_pb2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    bundle = plan_folders.publish(tmp_path_factory.mktemp("plan") / "tiny.plan")
    plan_folders.put_profile(bundle)
    return read_bundle(bundle.folder)


@pytest.fixture
def copied(made: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.folder, tmp_path / "moved" / "copy.plan"))


def picture() -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(0).random((1, 3, SIZE, SIZE)).astype(np.float32)}


def test_parts_from_the_folder_are_small_and_give_what_the_whole_gives(made: Bundle) -> None:
    whole = open_session(made.full_path).run(picture())
    for cut in made.cuts:
        between = open_session(made.head_path(cut.name)).run(picture())
        assert {name: value.shape for name, value in between.items()} == cut.shapes
        np.testing.assert_array_equal(open_session(made.tail_path(cut.name)).run(between)["logits"], whole["logits"])
    parts = made.folder / "parts"
    assert (parts / "weights.bin").stat().st_size < 1.1 * residual_classifier().ByteSize()
    assert made.postprocess()(whole).classes[0] == np.argmax(whole["logits"])


def test_the_same_additions_give_the_same_bytes(made: Bundle, tmp_path: Path) -> None:
    again = plan_folders.publish(tmp_path / "other name.plan")
    plan_folders.put_profile(again)
    mine, theirs = (
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (made.folder, again.folder)
    )
    assert mine == theirs
    assert set(mine) >= {"plan.pb", "plan.json", "manifest.json", "parts/weights.bin", "profiles/laptop.json"}


def test_a_moved_folder_still_works_and_names_no_path(made: Bundle, copied: Path) -> None:
    bundle = read_bundle(copied)
    assert (bundle.plan, bundle.profiles, bundle.manifest) == (made.plan, made.profiles, made.manifest)
    open_session(bundle.tail_path(bundle.cuts[0].name))
    for path in copied.rglob("*"):
        if path.is_file():
            assert str(made.folder.parent).encode() not in path.read_bytes(), path.name


def test_the_mirror_says_in_json_what_the_root_says(made: Bundle) -> None:
    mirror = json.loads((made.folder / "plan.json").read_text())
    assert mirror["key"]["codecs"] == {"u8zstd": [8, 4], "jpeg": [85]}
    assert mirror["cuts"][0]["tensors"][0]["shape"] == [1, 8, 12, 12]
    message = plan_pb2.PlanFile.FromString((made.folder / "plan.pb").read_bytes())
    assert message.rows[0].bytes_p95 == mirror["rows"][0]["bytes_p95"] == pytest.approx(8800)
    assert dict(message.files) == mirror["files"]


FILES = ["manifest.json", "parts/full.onnx", "parts/{cut}.head.onnx", "parts/{cut}.tail.onnx", "parts/weights.bin"]


@pytest.mark.parametrize("name", FILES)
def test_an_altered_or_missing_file_is_named(copied: Path, name: str) -> None:
    path = copied / name.format(cut=read_bundle(copied).cuts[0].name)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ModelError, match=rf"{path.name} is not the file that plan\.pb describes .*splitmesh plan"):
        read_bundle(copied)
    if name != "manifest.json":
        assert read_bundle(copied, verify=False).cuts
    path.unlink()
    with pytest.raises(ModelError, match=rf"{path.name} is missing"):
        read_bundle(copied, verify=False)


def rewrite(folder: Path, change: object) -> None:
    """Apply `change` to the message in plan.pb and keep the mirror in step if the result is a plan."""
    message = plan_pb2.PlanFile.FromString((folder / "plan.pb").read_bytes())
    change(message)  # type: ignore[operator]
    (folder / "plan.pb").write_bytes(message.SerializeToString(deterministic=True))


def drop(name: str) -> object:
    return lambda message: message.files.pop(name)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda m: setattr(m.key, "format", 3), r"plan\.pb has plan format 3, this version reads 2"),
        (lambda m: setattr(m.key, "revision", 1), r"plan\.pb was made by revision 1 of cutting"),
        (lambda m: m.MergeFromString(b"\xf8\x07\x01"), r"plan\.pb holds fields that this version .* not know"),
        (lambda m: m.cuts[0].MergeFromString(b"\xf8\x07\x01"), r"plan\.pb holds fields that this version"),
        (lambda m: m.ClearField("strip"), r"plan\.pb: strip: Field required"),
        (lambda m: setattr(m.cuts[0], "name", "../evil"), r"plan\.pb: cuts\.0\.name"),
        (lambda m: setattr(m.rows[0], "fidelity", 1.5), r"plan\.pb: rows\.0\.fidelity"),
        (lambda m: setattr(m, "track_kappa", float("nan")), r"plan\.pb: track_kappa"),
        (lambda m: setattr(m, "track_kappa", 7.0), r"plan\.json does not say what plan\.pb says"),
    ],
)
def test_a_root_that_is_not_what_this_version_writes_is_refused(copied: Path, change: object, complaint: str) -> None:
    rewrite(copied, change)
    with pytest.raises(ModelError, match=complaint) as refusal:
        read_bundle(copied)
    assert "splitmesh plan" in refusal.value.advice


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"parts/full.onnx": None}, r"plan\.pb lists no parts/full\.onnx"),
        ({"manifest.json": None}, r"plan\.pb lists no manifest\.json"),
        ({"parts/block0-8x12x12.tail.onnx": None}, r"lists no parts/block0-8x12x12\.tail\.onnx"),
        ({"parts/gone.head.onnx": "0" * 64}, r"lists 'parts/gone\.head\.onnx', which no plan of these cuts has"),
        ({"../escape.onnx": "0" * 64}, r"lists '\.\./escape\.onnx'"),
        ({"/etc/passwd": "0" * 64}, r"lists '/etc/passwd'"),
        ({"parts/more.onnx": "0" * 64}, r"more\.onnx is missing"),
    ],
)
def test_files_that_do_not_belong_are_refused_by_name(
    made: Bundle, copied: Path, files: dict[str, str | None], complaint: str
) -> None:
    listed = {name: sha for name, sha in {**made.plan.files, **files}.items() if sha is not None}
    plan = made.plan.model_copy(update={"files": listed})
    (copied / "plan.pb").write_bytes(plan_bytes(plan))
    (copied / "plan.json").write_text(json.dumps(plan.model_dump(mode="json")))
    with pytest.raises(ModelError, match=complaint):
        read_bundle(copied)


def test_a_model_that_was_slipped_in_is_refused(copied: Path) -> None:
    """Even one that nothing names: the runtime looks for optimised forms beside the plain ones."""
    (copied / "parts" / "full.cpu-1.0.0.onnx").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"full\.cpu-1\.0\.0\.onnx does not belong to the plan \(delete it"):
        read_bundle(copied, verify=False)


@pytest.mark.parametrize("name", ["plan.pb", "plan.json"])
def test_damaged_and_missing_roots_are_refused(copied: Path, name: str, tmp_path: Path) -> None:
    path = copied / name
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelError, match=rf"{path.name}"):
        read_bundle(copied)
    path.unlink()
    with pytest.raises(ModelError, match=rf"{path.name} is missing .*splitmesh plan"):
        read_bundle(copied)
    with pytest.raises(ModelError, match=r"none\.plan is no plan"):
        read_bundle(tmp_path / "none.plan")


def test_a_folder_of_the_first_format_is_told_to_be_made_again(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({"key": {"format": 1, "revision": 3}}))
    with pytest.raises(ModelError, match=r"plan\.json has plan format 1, this version reads 2 .*make the plan again"):
        read_bundle(tmp_path)


def test_a_damaged_profile_is_named_and_hurts_no_other(made: Bundle, copied: Path) -> None:
    good = copied / "profiles" / "laptop.json"
    fields = json.loads(good.read_text())
    cases = {
        "torn.json": good.read_text()[:100],
        "wrong-plan.json": json.dumps({**fields, "plan_sha256": "0" * 64, "device_class": "wrong-plan"}),
        "renamed.json": good.read_text(),
        "unknown.json": json.dumps({**fields, "device_class": "unknown", "colour": "red"}),
        "empty.json": json.dumps({**fields, "device_class": "empty", "times": {}}),
    }
    for name, text in cases.items():
        (copied / "profiles" / name).write_text(text)
    bundle = read_bundle(copied)
    assert bundle.profiles == made.profiles
    assert bundle.refused.keys() == cases.keys()
    assert all(name in reason and "splitmesh plan profile" in reason for name, reason in bundle.refused.items())


def test_profiles_merge_side_by_side_and_replace_their_own_class(copied: Path) -> None:
    bundle = read_bundle(copied)
    names = [f"box-{index}" for index in range(8)]
    workers = [threading.Thread(target=plan_folders.put_profile, args=(bundle, name)) for name in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert set(read_bundle(copied).profiles) == {"laptop", *names}
    plan_folders.put_profile(bundle, "laptop", threads=4)
    assert read_bundle(copied).profiles["laptop"].threads == 4
    assert not [path for path in (copied / "profiles").iterdir() if path.name.startswith(".")]
    with pytest.raises(ModelError, match="box-1 is not of plan"):
        add_profile(copied, plan_folders.profile(bundle, "box-1", plan_sha256="1" * 64))


def test_a_profile_is_selected_by_device_threads_or_class(copied: Path) -> None:
    plan_folders.put_profile(read_bundle(copied), "pi", device="cpu/aarch64/Pi/4", threads=2, edge_slowdown=3.0)
    bundle = read_bundle(copied)
    assert bundle.profile is None and bundle.points == () and (bundle.device, bundle.threads) == ("", 1)
    here = bundle.select(device=plan_folders.DEVICE, threads=1)
    assert (here.device, here.threads) == (plan_folders.DEVICE, 1)
    assert {"track", "local", "frame/jpeg-85"} < {point.name for point in here.points}
    there = bundle.select(device_class="pi")
    assert there.threads == 2
    local = {b.device: point.edge_ms for b in (here, there) for point in b.points if point.name == "local"}
    assert local["cpu/aarch64/Pi/4"] == 3 * local[plan_folders.DEVICE]
    plan_folders.put_profile(bundle, "a-slower-one", edge_slowdown=4.0)
    assert read_bundle(copied).select(device=plan_folders.DEVICE).profile == here.profile
    for nothing in ({"threads": 3}, {"device": "cpu/other"}, {"device": "cpu/aarch64/Pi/4", "threads": 1}):
        assert here.select(**nothing).points == ()  # type: ignore[arg-type]


def test_a_plan_without_calibration_has_no_points(tmp_path: Path) -> None:
    bundle = plan_folders.publish(tmp_path / "parts.plan", calibrated=False, rows=())
    plan_folders.put_profile(bundle)
    assert read_bundle(bundle.folder).select(threads=1).points == ()


def test_a_dropped_cut_leaves_no_file_and_a_variant_must_be_listed(tmp_path: Path) -> None:
    quick = residual_classifier()
    row = plan_folders.row("", "", 0, 0.0, variant="int8")
    rows = (*plan_folders.facts()["rows"], row)
    with pytest.raises(ModelError, match=r"lists no parts/full\.int8\.onnx"):
        plan_folders.publish(tmp_path / "without.plan", rows=rows)
    bundle = plan_folders.publish(tmp_path / "with.plan", rows=rows, variants={"full.int8.onnx": quick})
    assert bundle.local_path("int8").is_file() and bundle.local_path("") == bundle.full_path
    with pytest.raises(ModelError, match=r"has no parts/small\.onnx"):
        bundle.local_path("small")
    with pytest.raises(ModelError, match="has no cut 'elsewhere', only block0-8x12x12, block1-12x6x6"):
        bundle.head_path("elsewhere")
    with BundleDraft(tmp_path / "dropped.plan") as draft:
        model = residual_classifier()
        draft.add_full(model)
        cut = plan_folders.cut("block0")
        paths = draft.add_cut(cut.name, *plan_folders.split_model(model, cut))
        variant = draft.add_variant(f"{cut.name}.head.int8.onnx", residual_classifier())
        assert all(path.is_file() for path in (*paths, variant))
        draft.drop_cut(cut.name)
        assert not any(path.exists() for path in (*paths, variant))
        draft.add_manifest(classifier_manifest(), None)
        bundle = draft.publish(plan_folders.facts(cuts=(), rows=()))
    assert read_bundle(bundle.folder).cuts == ()


def test_publishing_again_keeps_profiles_of_an_equal_plan_only(tmp_path: Path) -> None:
    out = tmp_path / "tiny.plan"
    plan_folders.put_profile(plan_folders.publish(out))
    assert set(plan_folders.publish(out).profiles) == {"laptop"}
    changed = plan_folders.publish(out, track_kappa=50.0)
    assert not changed.profiles and not changed.refused
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.plan"]


def test_a_draft_takes_no_folder_that_is_not_a_plan_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(OutputError, match="is no plan folder"):
        BundleDraft(tmp_path / "photos")
    with pytest.raises(KeyError), BundleDraft(tmp_path / "new.plan") as draft:
        draft.add_full(residual_classifier())
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    with locked(tmp_path / "new.plan"):
        assert not (tmp_path / "new.plan").exists()


def test_bytes_and_values_are_one_to_one(made: Bundle) -> None:
    data = (made.folder / "plan.pb").read_bytes()
    assert plan_bytes(parse_plan(data, where="here")) == data
