"""Skeletons of graphs for guessing: ports, first and last operators and metadata are right, the rest is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from splitmesh.plan.guess.facts import Facts, read_facts

Sizes = Sequence[int | str | None]
PICTURE: dict[str, Sizes] = {"images": (1, 3, 640, 640)}


def skeleton(
    inputs: Mapping[str, Sizes],
    outputs: Mapping[str, Sizes],
    *,
    dtypes: Mapping[str, int] | None = None,
    opening: Sequence[tuple[str, object]] = (),
    closing: Mapping[str, str] | None = None,
    operators: Sequence[str] = (),
    producer: str = "pytorch",
    metadata: Mapping[str, str] | None = None,
) -> ModelProto:
    """opening: operators that the first input goes through, each with its constant, its permutation or None; then a
    Conv. closing: the operator that makes an output (default Add). operators: more that occur somewhere."""
    kinds = dtypes or {}
    nodes, weights = [], []
    now = next(iter(inputs))
    for index, (op, value) in enumerate(opening):
        reads = [now]
        if op == "Transpose":
            nodes.append(helper.make_node(op, reads, [f"step{index}"], perm=value))
        else:
            if value is not None:
                weights.append(numpy_helper.from_array(np.asarray(value, np.float32), f"value{index}"))
                reads += [f"value{index}"] * (4 if op == "BatchNormalization" else 1)
            nodes.append(helper.make_node(op, reads, [f"step{index}"]))
        now = f"step{index}"
    nodes.append(helper.make_node("Conv", [now, "kernel"], ["body"]))
    nodes += [helper.make_node(op, ["body"], [f"more{i}"]) for i, op in enumerate(operators)]
    for name in outputs:
        nodes.append(helper.make_node((closing or {}).get(name, "Add"), ["body", "body"], [f"{name}.last"]))
        nodes.append(helper.make_node("Reshape", [f"{name}.last", "shape"], [name]))
    graph = helper.make_graph(
        nodes,
        "skeleton",
        [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), s) for n, s in outputs.items()],
        weights,
    )
    model = helper.make_model(graph, producer_name=producer)
    helper.set_model_props(model, dict(metadata or {}))
    return model


def facts(*args: object, **kwargs: object) -> Facts:
    return read_facts(skeleton(*args, **kwargs))  # type: ignore[arg-type]
