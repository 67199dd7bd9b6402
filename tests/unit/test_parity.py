"""Head and tail held against the whole, where outputs are not floats of one shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import odd_graphs
import onnx
import plan_graphs
import pytest
from plan_graphs import classifier_manifest, moving_squares

from splitmesh.errors import ModelError
from splitmesh.inference.planning.cutting import Precision
from splitmesh.inference.planning.parity import Verdict, check_parity, open_part, output_error
from splitmesh.inference.planning.whole import Whole
from splitmesh.inference.session import open_session
from splitmesh.plan.answers.postprocess import build_postprocess
from splitmesh.plan.cuts.extract import split_model
from splitmesh.plan.cuts.frontiers import survey
from splitmesh.plan.footage import Clip, Footage
from splitmesh.plan.graph.view import GraphView
from splitmesh.plan.manifest import Manifest

FP32 = Precision("fp32", 1e-4)


def judged(model: onnx.ModelProto, manifest: Manifest, folder: Path, alter, count: int = 16) -> Verdict:
    """Parity of the first cut, its tail changed by `alter`."""
    cut = survey(GraphView(model)).candidates[0]
    head, tail = split_model(model, cut)
    alter(tail)
    paths = tuple(plan_graphs.save(part, folder / f"{name}.onnx") for name, part in (("head", head), ("tail", tail)))
    part = open_part("c", cut.shapes, paths, threads=1, providers=("cpu",))  # type: ignore[arg-type]
    session = open_session(plan_graphs.save(model, folder / "full.onnx"), providers=("cpu",))
    whole = Whole(manifest, session, build_postprocess(manifest, None))
    return check_parity(whole, part, Footage((Clip(tuple(moving_squares(count)), 40.0),)).samples, FP32)


def _threshold(value: float):
    def alter(tail: onnx.ModelProto) -> None:
        least = next(t for t in tail.graph.initializer if t.name == "least")
        least.CopyFrom(onnx.numpy_helper.from_array(np.array([value], np.float32), "least"))

    return alter


def rows_of(folder: Path) -> list[np.ndarray]:
    path = plan_graphs.save(odd_graphs.suppressed(), folder / "look.onnx")
    session, manifest = open_session(path, providers=("cpu",)), odd_graphs.suppressed_manifest()
    whole = Whole(manifest, session, build_postprocess(manifest, None))
    return [session.run(whole.inputs(picture))["rows"] for picture in moving_squares(16)]


def test_one_box_on_the_threshold_may_fall_either_way(tmp_path: Path) -> None:
    scores = np.sort(np.concatenate([rows[:, 4] for rows in rows_of(tmp_path)]))
    between = float((scores[0] + scores[1]) / 2)
    verdict = judged(odd_graphs.suppressed(), odd_graphs.suppressed_manifest(), tmp_path, _threshold(between))
    assert verdict.holds and verdict.max_rel == 0.0 and verdict.frames == 16


def test_other_boxes_on_many_frames_are_a_fault(tmp_path: Path) -> None:
    scores = np.concatenate([rows[:, 4] for rows in rows_of(tmp_path)])
    verdict = judged(
        odd_graphs.suppressed(), odd_graphs.suppressed_manifest(), tmp_path, _threshold(float(np.median(scores)))
    )
    assert verdict.reason.startswith("output rows is ") and "of clip 1" in verdict.reason
    assert verdict.max_rel == float("inf")


def test_what_can_t_be_loaded_or_carries_other_tensors_is_named(tmp_path: Path) -> None:
    def other_input(tail: onnx.ModelProto) -> None:
        tail.graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1]))

    with pytest.raises(ModelError, match="the tail of c does not carry exactly the cut's tensors: more"):
        judged(plan_graphs.residual_classifier(), classifier_manifest(), tmp_path, other_input)


@pytest.mark.parametrize(
    ("got", "wanted", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.5], [1.0, 2.0], 0.25),
        ([3, 7, 7, 9], [3, 7, 8, 9], 0.25),
        ([True, True], [True, False], 0.5),
        ([1.0], [1.0, 2.0], float("inf")),
        ([], [], 0.0),
    ],
)
def test_output_error(got: list[float], wanted: list[float], error: float) -> None:
    assert output_error({"y": np.array(got)}, {"y": np.array(wanted)}) == pytest.approx(error)
    assert output_error({}, {"y": np.array([1.0])}) == float("inf")
