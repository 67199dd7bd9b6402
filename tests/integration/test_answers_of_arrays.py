"""A model that answers with a class map, from its run to the results, the lab's fidelity and the film."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from splitmesh.edge.results import ResultLog
from splitmesh.frames.answer import Answer
from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.inference.session import open_session
from splitmesh.lab.film import film_run
from splitmesh.lab.records import read_records
from splitmesh.lab.references import decode_pictures, measure_fidelity
from splitmesh.media.clip import write_test_clip
from splitmesh.media.overlay import class_color
from splitmesh.media.prepare import Preparer
from splitmesh.plan.bundle.draft import BundleDraft
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.manifest import Manifest, parse_manifest

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from plan_folders import facts

SIDE, COUNT = 96, 6
LABELS = ("red", "green", "blue")


def brightest_channel() -> ModelProto:
    """Class of a pixel: its largest channel after a blur, scores (1, 3, h, w)."""
    weights = np.zeros((3, 3, 3, 3), np.float32)
    weights[range(3), range(3)] = 1 / 9
    shape = [1, 3, SIDE, SIDE]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "w"], ["scores"], pads=[1, 1, 1, 1])],
        "segmenter",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def manifest() -> Manifest:
    return parse_manifest(
        {
            "name": "brightest",
            "input": "image",
            "width": SIDE,
            "height": SIDE,
            "scale": [1 / 255] * 3,
            "offset": [0, 0, 0],
            "fit": "letterbox",
            "postprocess": {"kind": "segmentation", "output": "scores"},
            "labels": LABELS,
            "licence": "none",
            "source": "made here",
        },
        where="test",
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    with BundleDraft(tmp_path_factory.mktemp("plan") / "brightest.plan") as draft:
        draft.add_manifest(manifest(), None)
        draft.add_full(brightest_channel())
        return draft.publish(facts(cuts=(), rows=(), rejected=()))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "clip.mp4"
    write_test_clip(path, frames=COUNT, width=320, height=180, fps=10)
    return path


@pytest.fixture(scope="module")
def records(bundle: Bundle, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FrameRecord, ...]:
    """As an edge leaves them: one line per picture, read back."""
    log = ResultLog(tmp_path_factory.mktemp("run") / "results.jsonl")
    session = open_session(bundle.full_path, providers=("cpu",))
    preparer, postprocess = Preparer.from_manifest(bundle.manifest), bundle.postprocess()
    for captured in decode_pictures(clip, range(COUNT)):
        assert captured.picture is not None
        prepared = preparer.prepare(captured.picture)
        answer = prepared.placement.to_source(postprocess(session.run({"image": prepared.tensor})))
        prepared.release()
        seq = captured.source_index
        where = (f"e.r.{seq}", seq, seq, captured.pts_ns, seq)
        log.write(FrameRecord(*where, Outcome.LOCAL, "local", "test", 150.0, 9.0, True, answer=answer))
    log.close()
    run = read_records(log.path)
    assert run.conserved and len(run.records) == COUNT
    return run.records


def test_the_lab_scores_class_maps(
    bundle: Bundle, clip: Path, records: tuple[FrameRecord, ...], tmp_path: Path
) -> None:
    def measure(given: list[FrameRecord]) -> dict[int, float]:
        found = measure_fidelity(bundle, str(clip), given, cache=tmp_path, threads=1, progress=lambda *_: None)
        assert found.measure == "mean IoU" and found.pictures == COUNT and not found.skipped
        return dict(found.by_seq)

    assert measure(list(records)) == dict.fromkeys(range(COUNT), 1.0)
    shifted = Answer.of_tensors({"mask": np.roll(records[2].answer.tensors["mask"], 3, axis=1)})
    spoilt = [
        replace(r, answer=shifted if r.seq == 2 else Answer.empty() if r.seq == 3 else r.answer) for r in records
    ]
    again = measure(spoilt)  # from the cache this time
    assert 0.2 < again[2] < 0.95 and again[3] == 0.0 and again[4] == 1.0


def test_the_film_shows_each_class_where_it_is_in_the_picture(
    bundle: Bundle, clip: Path, records: tuple[FrameRecord, ...], tmp_path: Path
) -> None:
    """The model sees the 16:9 picture between grey bars; the video must show the classes over the picture itself."""
    film = tmp_path / "annotated.mp4"
    assert film_run(film, clip, records, bundle.manifest, lambda *_: None) == COUNT

    def pictures(path: Path) -> list[np.ndarray]:
        with av.open(str(path)) as container:
            return [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]

    colors = np.array([class_color(n) for n in range(3)])
    for source, painted in zip(pictures(clip), pictures(film), strict=True):
        clear = np.sort(source, axis=2)
        sure = clear[..., 2] - clear[..., 1] > 60  # what is plainly of one colour
        sure[:40] = sure[-40:] = False  # banner and legend
        expected = (source + colors[source.argmax(axis=2)]) / 2
        off = np.abs(painted - expected).mean(axis=2)[sure]
        assert sure.sum() > 2000 and (off < 40).mean() > 0.9
