"""Owns what else an edge may run: the model and the kept heads in 8-bit integers, with the fidelity they keep.

Judges by fidelity alone. Whether a variant is faster depends on the device: `plan.bundle.points` asks its profile, so
that the same model and frames give the same plan on any machine.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from splitmesh.errors import MeshError
from splitmesh.inference.planning.cutting import Cutting
from splitmesh.inference.planning.examine import Kept
from splitmesh.inference.planning.parity import Part
from splitmesh.inference.planning.quantise import quantised_model, why_not
from splitmesh.inference.planning.rates import cut_rates, local_rates
from splitmesh.inference.planning.stages import Step, slice_of
from splitmesh.inference.planning.times import NO_VARIANTS, VariantFiles
from splitmesh.inference.planning.whole import Whole
from splitmesh.inference.session import Array, Session, open_session
from splitmesh.plan.bundle.draft import BundleDraft
from splitmesh.plan.bundle.format import local_file, part_file
from splitmesh.plan.bundle.points import LEAST_FIDELITY
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.bundle.schema import RateRow
from splitmesh.plan.footage import Sample, evenly
from splitmesh.plan.graph.view import GraphView

_log = logging.getLogger(__name__)

INT8 = "int8"
FIT_FRAMES = 16
MAX_BYTES = 200_000_000
"""Of weights: the quantiser holds four copies of them at its peak."""
HEADS_WORK = 8e9
"""Static cost (see `GraphView.cost`) beyond which no head is tried: each takes about as long as the whole model."""


@dataclass
class Quantising:
    """Quantises one model after the other; a failure is a note."""

    draft: BundleDraft
    cutting: Cutting
    whole: Whole
    providers: tuple[str, ...]
    fit: Sequence[Sample]
    """Ranges are taken from them alone; they must share no frame with `evaluated`."""
    evaluated: Sequence[Sample]
    rows: list[RateRow] = field(default_factory=list)
    files: VariantFiles = NO_VARIANTS
    notes: list[str] = field(default_factory=list)

    def run(self, kept: Sequence[Kept], step: Step) -> None:
        """The whole model, then the heads. Files and rows of those that keep enough go to the draft and `rows`."""
        step(0.0)
        reason = self._why_not()
        if reason:
            self.notes.append(f"no int8 form is offered: {reason}")
        else:
            heads = self._worth_a_try(kept)
            self._whole(slice_of(step, 0, 1 + len(heads)))
            for index, each_kept in enumerate(heads, 1):
                self._head(each_kept, slice_of(step, index, 1 + len(heads)))
        step(1.0)

    def _why_not(self) -> str:
        size = _weights_bytes(self.cutting.full)
        if size > MAX_BYTES:
            return f"quantising {size / 1e6:.0f} MB of weights takes more memory than a plan may"
        if not self.fit:
            return "all frames are needed to measure fidelity on"
        return why_not(self.cutting.full)

    def _worth_a_try(self, kept: Sequence[Kept]) -> Sequence[Kept]:
        if self.cutting.work <= HEADS_WORK:
            return kept
        self.notes.append(
            f"no head is tried in int8: {self.cutting.work / 1e9:.0f} billion operations a frame would take too long"
        )
        return ()

    def _whole(self, step: Step) -> None:
        path, file_name = self.cutting.full_path, local_file(INT8)

        def rates(session: Session) -> list[RateRow]:
            return [local_rates(self.whole, session, self.evaluated, step, variant=INT8)]

        made = self._quantised("the whole model", path, file_name, rates)
        if made is not None:
            self.files = self.files.with_whole(INT8, made)

    def _head(self, kept: Kept, step: Step) -> None:
        name, shapes, (head, tail) = kept.located

        def rates(session: Session) -> list[RateRow]:
            part = Part(name, shapes, session, self._opened(tail))
            rows = cut_rates(self.whole, part, self.evaluated, step).rows
            return [row.model_copy(update={"variant": INT8}) for row in rows]

        made = self._quantised(f"the head of {name}", head, part_file(name, "head", INT8), rates)
        if made is not None:
            self.files = self.files.with_head(name, made)

    def _quantised(
        self, what: str, path: Path, file_name: str, rates: Callable[[Session], list[RateRow]]
    ) -> Path | None:
        """The file in the draft. It is tried outside: weights that were once in the draft would stay there."""
        with tempfile.TemporaryDirectory(prefix="splitmesh-int8-") as folder:
            tried = Path(folder) / "int8.onnx"
            try:
                model = quantised_model(path, self._cases())
                onnx.save(model, tried)
                rows = rates(self._opened(tried))
            except MeshError as exc:
                _log.info("%s in int8: %s", what, exc)
                self.notes.append(f"{what} has no int8 form: the runtime can't make or run one")
                return None
        best = max((row.fidelity for row in rows), default=0.0)
        if best < LEAST_FIDELITY:
            self.notes.append(f"{what} is not offered in int8: it keeps a fidelity of {best:.2f}")
            return None
        self.rows += rows
        return self.draft.add_variant(file_name.rpartition("/")[2], model)

    def _cases(self) -> Iterator[dict[str, Array]]:
        return (self.whole.inputs(sample.picture) for sample in evenly(self.fit, FIT_FRAMES))

    def _opened(self, path: Path) -> Session:
        return open_session(path, threads=self.whole.session.threads, providers=self.providers, lean=True)


def variant_files(bundle: Bundle) -> VariantFiles:
    """The variants that a plan holds."""
    rows = bundle.plan.rows
    wholes = sorted({row.variant for row in rows if row.variant and not row.cut})
    heads = sorted({row.cut for row in rows if row.variant and row.cut})
    return VariantFiles(
        {variant: bundle.local_path(variant) for variant in wholes},
        {cut: bundle.head_path(cut, INT8) for cut in heads},
    )


def _weights_bytes(model: onnx.ModelProto) -> int:
    """Of all weights in float32, those that the graph makes of a shape and a value included."""
    elements = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    view = GraphView(model)
    for node, live in zip(view.nodes, view.live, strict=True):
        if node.op_type == "ConstantOfShape" and not live and node.output[0] in view.tensors:
            elements += view.tensors[node.output[0]].elements
    return 4 * elements
