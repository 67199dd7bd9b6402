from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import onnx
import plan_graphs
import pytest
from onnx import ModelProto

from splitmesh.plan.cuts.choose import shortlist
from splitmesh.plan.cuts.crossing import Refusal, crossing, wire_shape
from splitmesh.plan.cuts.cut import Cut
from splitmesh.plan.cuts.frontiers import Survey, survey
from splitmesh.plan.graph.view import GraphView

MODELS = Path(__file__).parents[3] / "shared" / "models"


def look(model: ModelProto) -> Survey:
    return survey(GraphView(model))


def names(cut: Cut) -> tuple[str, ...]:
    return tuple(t.name for t in cut.tensors)


def reasons(model: ModelProto) -> dict[str, str]:
    return {r.name: r.reason for r in look(model).rejected}


def test_cuts_lie_at_block_ends_not_inside_blocks() -> None:
    found = look(plan_graphs.residual_classifier())
    by_tensor = {names(c): c for c in found.candidates}
    assert ("stem_relu",) in by_tensor
    assert ("pooled",) in by_tensor
    for block in range(3):
        # The first activation of a shape: before it codes worse, all behind it costs more head.
        assert (f"down{block}_relu",) in by_tensor
        assert (f"down{block}",) not in by_tensor
        # The first block does a fifth of the work and more: its end is worth a look in spite of its equal shape.
        assert ((f"block{block}",) in by_tensor) == (block == 0)
    assert all(len(c.tensors) == 1 for c in found.candidates), "two tensors of a residual are never worth it here"
    shares = [c.head_share for c in found.candidates]
    assert shares == sorted(shares)
    assert found.frontiers == 26 == len(found.strip.ops)


def chain(*, pooled: bool) -> ModelProto:
    """Convolutions of equal shapes, then one to ten classes, averaged over positions or not."""
    b = plan_graphs.Builder(5)
    now, channels = "image", 3
    for at in range(8):
        now = b.add("Relu", [b.conv(now, f"c{at}", (8, channels), stride=2 if not at else 1)], f"r{at}")
        channels = 8
    out = b.conv(now, "classes", (10, 8))
    if not pooled:
        return b.model({out: [1, 10, plan_graphs.SIZE // 2, plan_graphs.SIZE // 2]})
    b.add("Flatten", [b.add("GlobalAveragePool", [out], "pool")], "logits")
    return b.model({"logits": [1, 10]})


def test_the_last_cut_before_positions_are_averaged_away_stays() -> None:
    """Hardly more than the average is sent of it, so that equal shapes do not mean equal bytes."""
    pooled, kept = (look(chain(pooled=pooled)).candidates for pooled in (True, False))
    shares = {names(c)[0]: c.head_share for c in pooled}
    assert {"r0", "r7"} <= shares.keys() and shares["r7"] <= 0.9
    assert [names(c) for c in kept] == [names(c) for c in pooled if names(c)[0] not in ("r7", "classes", "pool")]


def test_each_frontier_is_a_candidate_or_has_its_reason() -> None:
    found = look(plan_graphs.residual_classifier())
    why = {r.name: r.reason for r in found.rejected}
    assert why["n2"] == "n3-8x12x12 is behind the cheap steps that follow"
    assert why["n4…n6"] == "n3-8x12x12 is one tensor, no larger and no later"
    assert why["n14…n15"] == "same shapes as n10-12x6x6, which comes first"
    assert why["n25"] == "crosses an output: logits is made before it"
    assert {r.stage for r in found.rejected} == {"graph"}
    told = {i for r in found.rejected for i in _range(r.name)} | {c.node_index for c in found.candidates}
    assert told == set(found.strip.index)


def test_input_outputs_and_oversized_frontiers_are_never_cuts() -> None:
    # Behind "first" the frontier holds an output of the model, so the trunk up to "early" is all that can be cut;
    # the minimum cut may leave "first" for later.
    frontiers = [c for c in look(plan_graphs.two_outputs()).candidates if c.is_frontier]
    assert [names(c) for c in frontiers] == [("early",)]
    assert reasons(plan_graphs.two_outputs())["n2…n5"] == "crosses an output: first is made before it"
    pixels = 3 * plan_graphs.SIZE**2
    for model in (plan_graphs.residual_classifier(), plan_graphs.with_if(), plan_graphs.three_branches()):
        for cut in look(model).candidates:
            assert cut.elements <= 2 * pixels
            assert len(cut.tensors) <= 3
            assert not {"image", "logits", "out"} & set(names(cut))


def test_what_cannot_cross_is_named() -> None:
    why = reasons(plan_graphs.odd_tensors())
    assert why["n1"] == "tensor classes is int64 and can't cross"
    assert why["n3"] == "tensor total holds 1 elements: nothing to code"
    assert why["n5"] == "the shape of where is not known"
    assert why["n6"] == "the shape of where_f is not known"


def test_too_many_and_too_large_are_told_with_their_numbers() -> None:
    b = plan_graphs.Builder()
    wide = b.conv("image", "wide", (9, 3))
    parts = [b.conv(wide, f"part{i}", (1, 9), stride=4) for i in range(5)]
    b.add("Sum", parts, "out")
    why = reasons(b.model({"out": [1, 1, 12, 12]}))
    assert why["n0…n2"] == "50…53 % larger than the picture ×2"
    assert why["n3…n5"] == "4…5 live tensors, at most 3 cross"


def test_eight_bit_tensors_of_a_quantised_model_cross_themselves() -> None:
    found = look(plan_graphs.quantised())
    cut = found.candidates[0]
    assert names(cut) == ("q",)
    (tensor,) = cut.tensors
    assert (tensor.dtype, tensor.wire, tensor.shape) == ("uint8", "q.wire", (1, 6, 24, 24))
    assert {r.name: r.reason for r in found.rejected}["n0…n3"] == f"{cut.name} is the same in eight bits"


def test_equal_shapes_stay_where_they_add_a_fifth_of_the_work() -> None:
    """A model all of one shape, like a transformer, has late cuts for a slow worker too."""
    b = plan_graphs.Builder()
    now = b.conv("image", "stem", (4, 3), stride=4)
    for layer in range(20):
        now = b.conv(now, f"c{layer}", (4, 4))
    b.conv(now, "out", (1, 4))
    found = look(b.model({"out": [1, 1, 12, 12]}))
    shares = [c.head_share for c in found.candidates]
    assert len(shares) >= 4 and shares[-1] > 0.6
    assert all(later - earlier >= 0.2 for earlier, later in pairwise(shares))


def test_the_picture_re_arranged_betters_nothing() -> None:
    b = plan_graphs.Builder()
    scaled = b.add("Mul", ["image", b.weight("gain", 1)], "scaled")
    sides = [b.conv(scaled, side, (6, 3), kernel=11, stride=2) for side in ("left", "right")]
    b.conv(b.add("Concat", sides, "both", axis=1), "out", (2, 12), stride=2)
    tensors = [names(c) for c in look(b.model({"out": [1, 2, 12, 12]})).candidates]
    assert ("scaled",) in tensors and ("left", "right") in tensors


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 3, 4, 5), (1, 3, 4, 5)),
        ((1, 7, 4), (1, 7, 4)),
        ((1, 7), (1, 7)),
        ((7,), (1, 7)),
        ((7, 4), (1, 7, 4)),
        ((2, 3, 4), (1, 2, 3, 4)),
        ((2, 3, 4, 5), (1, 2, 3, 20)),
        ((1, 2, 3, 4, 5), (1, 2, 3, 20)),
        ((2, 3, 4, 5, 6), (1, 2, 3, 120)),
    ],
)
def test_wire_shapes_start_with_one_and_have_two_to_four_axes(
    shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert wire_shape(shape) == expected


def test_wire_names_are_free_and_fit_a_payload() -> None:
    long = "x" * 300
    b = plan_graphs.Builder()
    b.conv("image", long, (2, 3), stride=2)
    b.add("Cast", [long], "h", to=onnx.TensorProto.FLOAT16)
    b.add("Cast", ["h"], "h.wire", to=onnx.TensorProto.FLOAT)
    b.add("Relu", ["h.wire"], "out")
    view = GraphView(b.model({"out": [1, 2, 24, 24]}))
    half, named = crossing(view, "h"), crossing(view, long)
    assert not isinstance(half, Refusal) and half.wire == "h.wire_"
    assert not isinstance(named, Refusal) and len(named.wire) < 32
    plain = crossing(view, "h.wire")
    assert not isinstance(plain, Refusal) and plain.wire == "h.wire" and not plain.adapted


def test_bodies_of_control_flow_are_one_step() -> None:
    tensors = {name for cut in look(plan_graphs.with_if()).candidates for name in names(cut)}
    assert not {"then_a", "then_b", "else_a", "else_b"} & tensors
    assert "trunk" in tensors or "chosen" in tensors


def test_names_are_subject_safe_unique_and_follow_from_the_graph_alone() -> None:
    for build in (plan_graphs.residual_classifier, plan_graphs.three_branches, plan_graphs.quantised):
        first = look(build())
        assert first == look(onnx.load_from_string(build().SerializeToString()))
        assert len({c.name for c in first.candidates}) == len(first.candidates)
        assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,47}", c.name) for c in first.candidates)


def test_open_batch_is_cut_like_batch_one() -> None:
    fixed = look(plan_graphs.residual_classifier())
    assert look(plan_graphs.residual_classifier(batch="N")) == fixed


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("coco_ssdlite_mobilenetv2_300", ["n17-24x75x75", "n36-32x38x38", "n65-64x19x19", "n104-96x19x19"]),
        ("mobilenet_v2_imagenet", ["n9-24x56x56", "n37-64x14x14", "n60-96x14x14", "n77-160x7x7"]),
        ("yolox_nano", ["n14-16x104x104", "n40-32x52x52"]),
        ("squeezenet11_fp16", ["n4-16x55x55", "n19-32x27x27"]),
        ("mp_facemesh192", ["n15-32x48x48", "n29-64x24x24", "n43-128x12x12"]),
        ("face_detection_yunet_2023mar", ["n5-16x160x160", "n9-32x160x160", "n18-64x80x80"]),
    ],
)
def test_real_models_have_cuts_over_a_range_of_head_shares(file: str, expected: list[str]) -> None:
    path = MODELS / f"{file}.onnx"
    if not path.exists():
        pytest.skip(f"needs {path.name} from the shared data")
    chosen = shortlist(look(onnx.load(path)).candidates)
    assert 3 <= len(chosen) <= 8
    shares = [c.head_share for c in chosen]
    assert shares[-1] - shares[0] > 0.4
    assert set(expected) <= {c.name for c in chosen}


def _range(name: str) -> range:
    ends = [int(part) for part in re.findall(r"n(\d+)", name)]
    return range(ends[0], ends[-1] + 1) if name.startswith("n") else range(0)
