from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import plan_graphs
import pytest
from onnx import ModelProto, helper

from splitmesh.errors import ModelError
from splitmesh.plan.cuts.extract import PARITY_LIMIT, parity_error, relative_error, split_model
from splitmesh.plan.cuts.frontiers import Cut, candidate_cuts, choose_cuts
from splitmesh.plan.graph.view import load_graph

MODELS = Path(__file__).parents[3] / "shared" / "models"


def run(model: ModelProto):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def pictures(count: int, seed: int = 5) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"image": rng.uniform(-1, 1, (1, 3, 48, 48)).astype(np.float32)} for _ in range(count)]


def test_cuts_lie_at_block_ends_not_inside_blocks() -> None:
    cuts = candidate_cuts(plan_graphs.residual_classifier())
    by_tensor = {c.tensors: c for c in cuts}
    assert ("stem_relu",) in by_tensor
    assert ("pooled",) in by_tensor
    for block in range(3):
        # The first activation of a shape: before it codes worse, all behind it costs more head.
        assert (f"down{block}_relu",) in by_tensor
        assert (f"down{block}",) not in by_tensor
        assert (f"block{block}",) not in by_tensor
    assert all(len(c.tensors) == 1 for c in cuts), "two tensors of a residual are never worth it here"
    assert [c.head_share for c in cuts] == sorted(c.head_share for c in cuts)


def test_input_outputs_and_oversized_frontiers_are_never_cuts() -> None:
    cuts = candidate_cuts(plan_graphs.two_outputs())
    # Behind "first" the frontier holds an output of the model, so the trunk up to "early" is all that can be cut.
    assert [c.tensors for c in cuts] == [("early",)]
    pixels = 3 * plan_graphs.SIZE**2
    for model in (plan_graphs.residual_classifier(), plan_graphs.with_if()):
        for cut in candidate_cuts(model):
            assert cut.elements <= 2 * pixels
            assert not {"image", "logits", "out"} & set(cut.tensors)


def test_bodies_of_control_flow_are_one_step() -> None:
    tensors = {name for cut in candidate_cuts(plan_graphs.with_if()) for name in cut.tensors}
    assert not {"then_a", "then_b", "else_a", "else_b"} & tensors
    assert "trunk" in tensors or "chosen" in tensors


def test_names_are_subject_safe_unique_and_follow_from_the_graph_alone() -> None:
    first = candidate_cuts(plan_graphs.residual_classifier())
    again = candidate_cuts(onnx.load_from_string(plan_graphs.residual_classifier().SerializeToString()))
    assert first == again
    assert len({c.name for c in first}) == len(first)
    assert all(re.fullmatch(r"[a-z0-9-]{1,48}", c.name) for c in first)


def test_open_batch_is_cut_like_batch_one() -> None:
    fixed = candidate_cuts(plan_graphs.residual_classifier())
    assert candidate_cuts(plan_graphs.residual_classifier(batch="N")) == fixed


def test_choice_is_small_cuts_that_differ_in_head_share() -> None:
    def cut(share: float, elements: int) -> Cut:
        return Cut(
            f"n{int(share * 100)}", ("t",), ((1, 1, 1, elements),), elements, int(share * 100), share, elements / 1000
        )

    early, twin, middle, late, done = cut(0.2, 400), cut(0.22, 420), cut(0.45, 100), cut(0.7, 150), cut(0.99, 10)
    assert choose_cuts([early, twin, middle, late, done], 3) == [early, middle, late]
    assert choose_cuts([early, twin, middle, late, done], 4) == [early, middle, late], "the twin adds nothing"
    assert choose_cuts([early, twin, done], 4) == [early, twin, done]
    assert choose_cuts([early, done], 3) == [early, done], "a cut of little use fills up to three"
    assert choose_cuts([], 3) == []


@pytest.mark.parametrize("build", [plan_graphs.residual_classifier, plan_graphs.two_outputs, plan_graphs.with_if])
def test_every_candidate_splits_into_parts_that_equal_the_whole(build) -> None:
    model = build()
    whole = run(model)
    cases = [(inputs, whole(inputs)) for inputs in pictures(4)]
    cuts = candidate_cuts(model)
    assert cuts
    for cut in cuts:
        head, tail = split_model(model, cut)
        assert len(head.graph.node) + len(tail.graph.node) == len(model.graph.node)
        assert parity_error(run(head), run(tail), cases) <= PARITY_LIMIT, cut


def test_parity_sees_a_wrong_tail() -> None:
    model = plan_graphs.residual_classifier()
    whole = run(model)
    cut = candidate_cuts(model)[1]
    head, tail = split_model(model, cut)
    weights = next(t for t in tail.graph.initializer if t.name == "head_b")
    weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) + 0.01, "head_b"))
    cases = [(inputs, whole(inputs)) for inputs in pictures(2)]
    assert parity_error(run(head), run(tail), cases) > PARITY_LIMIT


def test_relative_error_of_missing_or_reshaped_outputs_is_infinite() -> None:
    want = {"a": np.ones((1, 2), np.float32)}
    assert relative_error({}, want) == float("inf")
    assert relative_error({"a": np.ones((2, 1), np.float32)}, want) == float("inf")
    assert relative_error({"a": np.array([[1.0, 1.5]], np.float32)}, want) == pytest.approx(0.5)


def test_split_refuses_a_cut_that_the_input_bypasses() -> None:
    model = plan_graphs.residual_classifier()
    wrong = Cut("n3-wrong", ("inner0",), ((1, 8, 12, 12),), 1152, 3)
    with pytest.raises(ModelError, match=r"n3-wrong-tail .*image"):
        split_model(model, wrong)


def test_constants_that_both_sides_read_are_copied() -> None:
    model = plan_graphs.residual_classifier()
    shared = helper.make_node("Constant", [], ["half"], value_float=0.5)
    model.graph.node.insert(0, shared)
    for node in model.graph.node:
        if node.output[0] in ("stem_relu", "block2"):
            node.op_type = "Mul"
            node.input.append("half")
    whole = run(model)
    cases = [(inputs, whole(inputs)) for inputs in pictures(2)]
    cut = next(c for c in candidate_cuts(model) if c.tensors == ("down1_relu",))
    head, tail = split_model(model, cut)
    assert [sum(n.op_type == "Constant" for n in part.graph.node) for part in (head, tail)] == [1, 1]
    assert parity_error(run(head), run(tail), cases) <= PARITY_LIMIT


def test_load_names_the_file_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model at all")
    with pytest.raises(ModelError, match=r"broken\.onnx is not a valid ONNX file"):
        load_graph(str(path))
    with pytest.raises(ModelError, match=r"absent\.onnx does not exist"):
        load_graph(str(tmp_path / "absent.onnx"))


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("coco_ssdlite_mobilenetv2_300", ["n17-24x75x75", "n36-32x38x38", "n65-64x19x19", "n104-96x19x19"]),
        ("mobilenet_v2_imagenet", None),
        ("yolox_nano", None),
        ("mp_facemesh192", None),
        ("face_detection_yunet_2023mar", None),
    ],
)
def test_real_models_have_at_least_three_cuts(file: str, expected: list[str] | None) -> None:
    path = MODELS / f"{file}.onnx"
    if not path.exists():
        pytest.skip(f"needs {path.name} from the shared data")
    chosen = choose_cuts(candidate_cuts(load_graph(str(path))))
    assert 3 <= len(chosen) <= 4
    shares = [c.head_share for c in chosen]
    assert shares == sorted(shares) and shares[-1] - shares[0] > 0.1
    if expected:
        assert [c.name for c in chosen] == expected
