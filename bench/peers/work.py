"""The work that every system of `bench.serving` does, written by hand: decode, normalise, run, post-process.

Peers import it in environments of their own, which borrow numpy, onnxruntime and splitmesh from the project's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import simplejpeg

from splitmesh.codec.compact.intra import decode_compact
from splitmesh.frames.answer import Answer
from splitmesh.frames.normalize import Normalizer
from splitmesh.plan.bundle.read import read_bundle

Work = Callable[[bytes], Answer]
"""From a request's body to boxes. One thread at a time."""


def make_work(plan: Path | None = None, cut: str | None = None, threads: int = 1) -> Work:
    """The whole model from a JPEG of its input size, or with `cut` its tail from a payload of compact features.

    What is not given is taken from BENCH_PLAN and BENCH_CUT. onnxruntime has `threads` threads that don't spin.
    """
    bundle = read_bundle(plan or Path(os.environ["BENCH_PLAN"]))
    cut = os.environ.get("BENCH_CUT", "") if cut is None else cut
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = bundle.tail_path(cut) if cut else bundle.full_path
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    postprocess, normalizer = bundle.postprocess(), Normalizer.from_manifest(bundle.manifest)
    table, image = (bundle.table(cut) if cut else None), bundle.manifest.input

    def whole(body: bytes) -> Answer:
        tensor = normalizer.normalize(simplejpeg.decode_jpeg(body, "RGB"))
        return postprocess(dict(zip(names, session.run(names, {image: tensor}), strict=True)))

    def tail(body: bytes) -> Answer:
        features = decode_compact(body, tables=lambda _: table, expect=bundle.cut(cut).shapes)
        return postprocess(dict(zip(names, session.run(names, dict(features)), strict=True)))

    return tail if cut else whole


def packed(answer: Answer) -> bytes:
    """Count, boxes, scores and classes, little endian: what a peer sends back."""
    parts = (answer.boxes.astype("<f4"), answer.scores.astype("<f4"), answer.classes.astype("<u2"))
    return b"".join((np.uint32(len(answer)).tobytes(), *(part.tobytes() for part in parts)))
