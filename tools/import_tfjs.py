"""Converts a TensorFlow.js graph model to ONNX. Needs numpy and onnx only.

    python tools/import_tfjs.py model.json --input Preprocessor/sub=image:1,300,300,3 \\
        --output Squeeze=boxes --output concat_1=class_logits -o model.onnx

--input names the tensor to replace, the ONNX input and its NHWC shape; what lies before it is dropped, as is
everything that no --output needs. The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import numpy as np

from splitmesh.errors import MeshError, ModelError
from splitmesh.models.convert_graph import serialize
from splitmesh.models.convert_tfjs import GraphModel, convert, read_graph_model


def load(model_json: Path) -> GraphModel:
    """A graph model from its `model.json`, with weight files beside it. Raises ModelError."""
    folder = model_json.resolve().parent

    def shard(name: str) -> bytes:
        if Path(name).name != name:
            raise ModelError(f"weight file {name!r} is not beside {model_json.name}")
        return (folder / name).read_bytes()

    return read_graph_model(model_json.read_bytes(), shard)


def parse_input(text: str) -> tuple[str, str, tuple[int, int, int, int]]:
    """`TENSOR=NAME:N,H,W,C` as `convert` wants its feed. Raises argparse.ArgumentTypeError."""
    match = re.fullmatch(r"(?P<tensor>[^=]+)=(?P<name>[^:]+):(?P<shape>\d+,\d+,\d+,\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not TENSOR=NAME:N,H,W,C")
    n, h, w, c = (int(size) for size in match["shape"].split(","))
    return match["tensor"], match["name"], (n, h, w, c)


def parse_pair(text: str) -> tuple[str, str]:
    """`TENSOR=NAME`. Raises argparse.ArgumentTypeError."""
    tensor, equals, name = text.partition("=")
    if not (tensor and equals and name):
        raise argparse.ArgumentTypeError(f"{text!r} is not TENSOR=NAME")
    return tensor, name


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_json", type=Path)
    parser.add_argument("--input", type=parse_input, required=True, metavar="TENSOR=NAME:N,H,W,C")
    parser.add_argument("--output", type=parse_pair, required=True, action="append", metavar="TENSOR=NAME")
    parser.add_argument("--strip", action="append", default=[], help="text to drop from tensor names")
    parser.add_argument("--weight", type=parse_pair, action="append", default=[], metavar="NAME=FILE.npy")
    parser.add_argument("-o", "--onnx", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        graph = load(options.model_json)
        model = convert(
            graph,
            name=options.onnx.stem,
            feed=options.input,
            outputs=dict(options.output),
            strip=options.strip,
        )
        for name, file in options.weight:
            if name not in graph.weights:
                raise ModelError(f"the graph has no weight {name!r}")
            np.save(file, graph.weights[name], allow_pickle=False)
        options.onnx.write_bytes(serialize(model))
    except (MeshError, OSError) as exc:
        print(f"import-tfjs: {exc}", file=sys.stderr)
        return 1
    print(f"wrote {options.onnx}: {len(model.graph.node)} nodes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
