"""`splitmesh plan` from a model file to a plan that is asked, checked, profiled again, and refused where it fails."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from splitmesh.cli import main
from splitmesh.plan.bundle.draft import BundleDraft, write_atomically
from splitmesh.plan.bundle.read import Bundle, read_bundle
from splitmesh.plan.bundle.schema import PlanFile
from splitmesh.plan.report.document import document

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from plan_graphs import moving_squares, residual_classifier, save

STILLS = 30


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that nobody wrote a manifest for, and pictures of several sizes."""
    folder = tmp_path_factory.mktemp("home")
    save(residual_classifier(), folder / "tiny.onnx")
    (folder / "stills").mkdir()
    for index, picture in enumerate(moving_squares(STILLS)):
        wide = np.pad(picture, ((0, 0), (0, index % 5), (0, 0)), mode="edge")
        Image.fromarray(wide).save(folder / "stills" / f"{index:02}.png")
    return folder


@pytest.fixture(scope="module")
def made(home: Path) -> tuple[Path, str, str]:
    """(plan folder, what was printed, what was said on the side)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("COLUMNS", "120")
        status, out, err = run_plan("tiny.onnx", "--images", "stills", "--edge-slowdown", "4", "--json", "tiny.json")
    assert status == 0, err
    return home / "tiny.plan", out, err


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("COLUMNS", "120")


def run_plan(*words: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `splitmesh plan WORDS`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main.run(["plan", *words])
    return status, out.getvalue(), err.getvalue()


def with_broken_tail(bundle: Bundle, out: Path) -> str:
    """A copy at `out` that is whole by its sha256, in which one tail adds a little to a bias. Returns that cut."""
    cut = bundle.cuts[0].name
    with BundleDraft(out) as draft:
        draft.add_manifest(bundle.manifest, None)
        draft.add_full(onnx.load(bundle.full_path))
        for entry in bundle.cuts:
            head, tail = onnx.load(bundle.head_path(entry.name)), onnx.load(bundle.tail_path(entry.name))
            if entry.name == cut:
                bias = next(
                    i for i in tail.graph.initializer if len(i.dims) == 1 and i.data_type == onnx.TensorProto.FLOAT
                )
                bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 0.25, bias.name))
            draft.add_cut(entry.name, head, tail)
            if (table := bundle.table(entry.name)) is not None:
                draft.add_table(entry.name, table)
        facts = {name: getattr(bundle.plan, name) for name in PlanFile.model_fields if name != "files"}
        draft.publish(facts | {"rows": tuple(row for row in bundle.plan.rows if not row.variant)})
    return cut


def test_a_model_without_a_manifest_becomes_a_plan_and_guesses_are_said_first(made: tuple[Path, str, str]) -> None:
    folder, out, err = made
    said = [line for line in err.splitlines() if line.startswith("guessed: ")]
    assert said and err.index("guessed: ") < err.index("read frames")
    bundle = read_bundle(folder)
    assert [f"guessed: {note}" for note in bundle.plan.notes][: len(said)] == said
    assert bundle.plan.frames.evaluate and bundle.plan.rows and bundle.cuts
    for cut in bundle.cuts:
        assert cut.name in out
    assert "splitmesh edge --plan tiny.plan" in out and "tiny.plan/plan.html" in out
    for stage in ("look for cuts", "measure bytes and fidelity", "measure times"):
        assert stage in err


def test_json_and_page_are_those_of_the_plan(made: tuple[Path, str, str]) -> None:
    folder, _, _ = made
    bundle = read_bundle(folder).select()
    assert json.loads((folder.parent / "tiny.json").read_text()) == json.loads(json.dumps(document(bundle)))
    assert bundle.profile is not None and bundle.profile.edge_slowdown == 4
    page = (folder / "plan.html").read_text(encoding="utf-8")
    assert all(cut.name in page for cut in bundle.plan.rejected) and "×4 slower" in page


def test_a_plan_that_holds_is_kept_and_only_the_slowdown_changes(made: tuple[Path, str, str]) -> None:
    folder, _, _ = made
    before, stamp = read_bundle(folder).select(), (folder / "plan.pb").stat().st_mtime_ns
    words = ("tiny.onnx", "--images", "stills", "--edge-slowdown", "8", "--quiet", "--json", "-")
    status, out, err = run_plan(*words)
    assert (status, err) == (0, "")
    assert (folder / "plan.pb").stat().st_mtime_ns == stamp
    row = json.loads(out)
    assert row["profile"]["edge_slowdown"] == 8 and before.profile
    assert row["profile"]["times"]["full"]["p50_ms"] == before.profile.times["full"].p50_ms
    local = next(point for point in row["operating_points"] if point["id"] == "local")
    assert local["edge_ms"] == pytest.approx(8 * before.profile.times["full"].p50_ms, abs=1e-3)


def test_force_and_other_frames_make_it_again_with_the_same_bytes_for_the_same_frames(
    made: tuple[Path, str, str], home: Path
) -> None:
    shutil.copytree(made[0], home / "again.plan")
    stamp, data = (home / "again.plan/plan.pb").stat().st_mtime_ns, (home / "again.plan/plan.pb").read_bytes()
    assert run_plan("tiny.onnx", "--images", "stills", "-o", "again.plan", "--force", "--quiet")[0] == 0
    assert (home / "again.plan/plan.pb").stat().st_mtime_ns > stamp
    assert (home / "again.plan/plan.pb").read_bytes() == data
    shutil.copytree(home / "stills", home / "fewer")
    for path in sorted((home / "fewer").iterdir())[20:]:
        path.unlink()
    assert run_plan("tiny.onnx", "--images", "fewer", "-o", "again.plan", "--quiet")[0] == 0
    assert (home / "again.plan/plan.pb").read_bytes() != data
    status, out, _ = run_plan("diff", "again.plan", str(made[0]))
    assert status == 1 and "footage_sha256" in out


def test_a_folder_that_is_no_plan_is_left_alone(home: Path) -> None:
    (home / "notes").mkdir()
    (home / "notes" / "todo.txt").write_text("keep me")
    status, _, err = run_plan("tiny.onnx", "--images", "stills", "-o", "notes", "--force", "--quiet")
    assert status == 1 and "notes exists and is no plan folder" in err
    assert (home / "notes" / "todo.txt").read_text() == "keep me"


def test_another_profile_is_measured_beside_the_first(made: tuple[Path, str, str], home: Path) -> None:
    shutil.copytree(made[0], home / "boxes.plan")
    status, out, _ = run_plan("profile", "boxes.plan", "--device-class", "other-box", "--threads", "2")
    assert status == 0 and "other-box" in out and "before" not in out
    bundle = read_bundle(home / "boxes.plan")
    assert len(bundle.profiles) == 2 and bundle.profiles["other-box"].threads == 2
    assert "other-box" in (home / "boxes.plan/plan.html").read_text(encoding="utf-8")
    status, out, _ = run_plan("profile", "boxes.plan", "--device-class", "other-box", "--edge-slowdown", "2")
    assert status == 0 and "before" in out and "full" in out
    assert read_bundle(home / "boxes.plan").profiles["other-box"].edge_slowdown == 2


def test_verify_passes_what_holds_and_fails_a_tail_that_lies(made: tuple[Path, str, str], home: Path) -> None:
    status, out, _ = run_plan("verify", str(made[0]), "--images", "stills")
    assert status == 0 and "holds" in out and "1e-04" in out
    cut = with_broken_tail(read_bundle(made[0]), home / "broken.plan")
    status, out, _ = run_plan("verify", "broken.plan", "--images", "stills")
    assert status == 1
    holds = {line.split()[0] for line in out.splitlines() if line.split()[-1:] == ["holds"]}
    assert holds == {other.name for other in read_bundle(made[0]).cuts} - {cut} and "off the whole model" in out


def test_verify_refuses_files_that_were_altered(made: tuple[Path, str, str], home: Path) -> None:
    shutil.copytree(made[0], home / "altered.plan")
    tail = read_bundle(home / "altered.plan").tail_path(read_bundle(made[0]).cuts[0].name)
    write_atomically(tail, tail.read_bytes() + b"\0")
    status, _, err = run_plan("verify", "altered.plan", "--images", "stills")
    assert status == 1 and tail.name in err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("nowhere.onnx",), "nowhere.onnx"),
        (("tiny.onnx", "--images", "empty"), "holds no picture"),
        (("tiny.onnx", "--video", "nowhere.mp4"), "nowhere.mp4"),
        (("tiny.onnx", "--manifest", "nowhere.toml"), "nowhere.toml"),
        (("broken.onnx", "--images", "stills"), "broken.onnx"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_can_not_be_had_is_one_clear_error(home: Path, words: tuple[str, ...], complaint: str) -> None:
    (home / "empty").mkdir(exist_ok=True)
    (home / "broken.onnx").write_bytes(b"no model at all")
    status, _, err = run_plan(*words, "-o", "never.plan", "--quiet")
    assert status == 1 and complaint in err and "Traceback" not in err
    assert not (home / "never.plan").exists() and not list(home.glob(".never.plan.*[!k]"))


def test_quantised_and_smaller_models_are_tried_when_asked_for(home: Path) -> None:
    save(residual_classifier(), home / "smaller.onnx")
    words = ("tiny.onnx", "--images", "stills", "--small", "smaller.onnx", "-o", "variants.plan")
    status, _, err = run_plan(*words)
    assert status == 0 and "quantise to int8" in err and "try the smaller model" in err
    bundle = read_bundle(home / "variants.plan")
    assert {row.variant for row in bundle.plan.rows} >= {"", "small"}
    assert "int8" in bundle.plan.key.options and "small=" in bundle.plan.key.options
    assert "local/small" in (home / "variants.plan/plan.html").read_text(encoding="utf-8")
    stamp = (home / "variants.plan/plan.pb").stat().st_mtime_ns
    assert run_plan(*words)[0] == 0
    assert (home / "variants.plan/plan.pb").stat().st_mtime_ns == stamp
