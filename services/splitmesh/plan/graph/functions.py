"""Owns putting a file's own functions in the place of their calls. Touches no weights."""

from __future__ import annotations

from onnx import FunctionProto, GraphProto, ModelProto, checker, inliner

from splitmesh.errors import ModelError
from splitmesh.plan.graph.versions import DEFAULT_DOMAINS, means_the_same


def inlined(model: ModelProto) -> ModelProto:
    """`model` itself where it has no functions, else a copy without its weights in which no call is left.

    A function written for another version of ONNX' operators is taken where these mean the same in the model's.
    Raises ModelError for one where they do not, and for functions that call themselves.
    """
    if not model.functions:
        return model
    light = _without_weights(model)
    version = _version(light)
    for function in light.functions:
        _set_version(function, version)
    try:
        result = inliner.inline_local_functions(light)
    except (checker.ValidationError, RuntimeError) as exc:
        raise ModelError(
            f"the model's own functions can't be put in the place of their calls: {exc}",
            advice="export it without functions",
        ) from exc
    if result.functions:
        left = ", ".join(f"{function.domain}:{function.name}" for function in result.functions)
        raise ModelError(
            f"the model's own functions {left} are written for other versions of ONNX' operators than the model",
            advice="export it for one opset, or without functions",
        )
    return result


def _without_weights(model: ModelProto) -> ModelProto:
    source = model.graph
    graph = GraphProto(name=source.name, node=source.node, input=source.input, output=source.output)
    return ModelProto(
        ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions, graph=graph
    )


def _version(model: ModelProto | FunctionProto) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in DEFAULT_DOMAINS), 0)


def _set_version(function: FunctionProto, wanted: int) -> None:
    """The model's version of ONNX' operators instead of the function's own, if that changes none of them."""
    own = _version(function)
    if own and wanted and means_the_same(function.node, own, wanted):
        for entry in function.opset_import:
            if entry.domain in DEFAULT_DOMAINS:
                entry.version = wanted
