"""`splitmesh bench codec` on a small plan with real parts: from a video to JSON, table and picture; its refusals."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from splitmesh.cli import main
from splitmesh.errors import SourceError
from splitmesh.media.clip import write_test_clip
from splitmesh.models.registry import resolve_model
from splitmesh.plan.footage import Clip, Footage
from splitmesh.provision.codec_bench.measure import Wanted, compare_codecs
from splitmesh.provision.shipped import shipped_plan

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from plan_graphs import residual_classifier, save

FRAMES = 10


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plan of a small classifier, the clip that it was calibrated on, and another clip."""
    folder = tmp_path_factory.mktemp("home")
    save(residual_classifier(), folder / "tiny.onnx")
    write_test_clip(folder / "seen.mp4", width=96, height=96, frames=30, seed=1)
    write_test_clip(folder / "other.mp4", width=96, height=96, frames=30, seed=9)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        status, _, err = run("plan", "tiny.onnx", "--video", "seen.mp4", "--no-int8", "--quiet")
    assert status == 0, err
    return folder


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("COLUMNS", "120")


def run(*words: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `splitmesh WORDS`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main.run(list(words))
    return status, out.getvalue(), err.getvalue()


def test_every_codec_is_compared_on_other_footage(home: Path) -> None:
    asked = ("--plan", "tiny.plan", "--video", "other.mp4", "--frames", str(FRAMES))
    status, out, err = run("bench", "codec", *asked, "--json", "codecs.json", "--plot", "codecs.png")
    assert status == 0, err
    assert "warning" not in err
    report = json.loads((home / "codecs.json").read_text())
    cuts = {cut["name"] for cut in json.loads((home / "tiny.plan" / "plan.json").read_text())["cuts"]}
    curves = {(curve["cut"], curve["codec"]): curve["points"] for curve in report["curves"]}
    assert {("", name) for name in ("jpeg", "webp", "x264_intra", "x264_inter")} <= curves.keys()
    assert cuts and {(cut, codec) for cut in cuts for codec in ("u8zstd", "compact", "temporal")} <= curves.keys()
    for points in curves.values():
        assert all(0 <= point["fidelity"] <= 1 and point["bytes"] > 0 for point in points)
        assert [point["level"] for point in points] == sorted({point["level"] for point in points})
        assert all(point["encode_ms"] > 0 and point["decode_ms"] > 0 for point in points)
    decided = report["frames"].pop("decided")
    assert 0 <= decided <= FRAMES and report["frames"] == {"video": FRAMES, "images": 0, "judged": FRAMES}
    for cut in cuts:
        for codec, rates in report["bd_rate"][cut].items():
            assert set(rates) == {"jpeg", "webp", "x264_intra", "x264_inter"}
            reasons = report["bd_rate_missing"].get(cut, {}).get(codec, {})
            assert {anchor for anchor, rate in rates.items() if rate is None} == reasons.keys()
    assert (home / "codecs.png").read_bytes().startswith(b"\x89PNG")
    assert "x264 inter" in out and "written: codecs.json" in out


def test_inter_frames_are_smaller_than_intra_frames_and_bits_follow_from_bytes(home: Path) -> None:
    asked = ("--plan", "tiny.plan", "--video", "other.mp4", "--frames", str(FRAMES), "--codec", "u8zstd", "--quiet")
    status, out, err = run("bench", "codec", *asked, "--json", "few.json")
    assert (status, out) == (0, ""), err
    report = json.loads((home / "few.json").read_text())
    curves = {(curve["cut"], curve["codec"]): curve["points"] for curve in report["curves"]}
    assert not any(codec == "compact" for _, codec in curves)
    for one, other in zip(curves["", "x264_inter"], curves["", "x264_intra"], strict=True):
        assert one["level"] == other["level"] and one["bytes"] < other["bytes"]
    for (cut, codec), points in curves.items():
        elements = 48 * 48 * 3
        if cut:
            shape = next(tuple(map(int, part.split("x"))) for part in cut.split("-") if "x" in part)
            elements = shape[0] * shape[1] * shape[2]
        for point in points:
            assert point["bits_per_element"] == pytest.approx(8 * point["bytes"] / elements, rel=1e-2), (cut, codec)


def test_it_says_aloud_that_the_plan_has_seen_the_footage() -> None:
    status, out, err = run("bench", "codec", "--plan", "tiny.plan", "--video", "seen.mp4", "--codec", "u8lz4")
    assert status == 0 and "u8lz4" in out
    assert "calibrated on this very footage" in err


def test_footage_in_which_the_model_finds_nothing_is_refused() -> None:
    """By a detector, in the dark: no codec could be told from another."""
    model = resolve_model()
    bundle = shipped_plan(model, threads=1, providers=("cpu",), progress=silent)
    assert bundle is not None
    dark = np.zeros((model.manifest.height, model.manifest.width, 3), np.uint8)
    footage = Footage((Clip((dark,) * 3, 40.0),))
    with pytest.raises(SourceError, match="finds nothing in any of the 3 frames") as refused:
        compare_codecs(
            bundle, footage, Wanted(), source={"video": "dark.mp4"}, calibrated_on_this_footage=False, progress=silent
        )
    assert refused.value.url == "dark.mp4" and "later part" in refused.value.advice


def silent(_stage: str, _share: float) -> None:
    pass


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (["--plan", "no.plan", "--video", "other.mp4"], 1, "no.plan is no plan"),
        (["--plan", "tiny.plan", "--video", "no.mp4"], 1, "no.mp4"),
        (["--plan", "tiny.plan", "--video", "tiny.onnx"], 1, "tiny.onnx"),
        (["--plan", "tiny.plan", "--video", "other.mp4", "--images", "tiny.plan/profiles"], 1, "holds no picture"),
        (["--plan", "tiny.plan", "--video", "other.mp4", "--cut", "n99"], 1, "no cut 'n99', only"),
        (["--plan", "tiny.plan", "--video", "other.mp4", "--codec", "mp3"], 2, "'mp3' is not one of"),
        (["--plan", "tiny.plan", "--video", "other.mp4", "--plot", "out.txt"], 1, "no format of pictures"),
        (["--video", "other.mp4"], 2, "--plan"),
    ],
)
def test_what_can_not_be_compared_is_refused_with_the_reason(words: list[str], status: int, complaint: str) -> None:
    found, _, err = run("bench", "codec", *words, "--frames", "4")
    assert found == status and complaint in err
    assert "Traceback" not in err
