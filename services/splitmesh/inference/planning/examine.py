"""Owns the trial of each cut on the shortlist, one at a time: extract, load, parity, determinism, screening."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from splitmesh.errors import CodecError, InferenceError, ModelError
from splitmesh.inference.planning.cutting import Cutting
from splitmesh.inference.planning.parity import Verdict, check_parity, open_part
from splitmesh.inference.planning.screening import screen
from splitmesh.inference.planning.stages import Step
from splitmesh.inference.planning.times import Located
from splitmesh.inference.planning.whole import Whole
from splitmesh.plan.bundle.draft import BundleDraft
from splitmesh.plan.bundle.points import MAX_PAYLOAD_BYTES
from splitmesh.plan.bundle.schema import CutEntry, TensorEntry
from splitmesh.plan.cuts.choose import Screened, keep
from splitmesh.plan.cuts.cut import Cut, Rejected
from splitmesh.plan.cuts.extract import split_model
from splitmesh.plan.footage import Sample


@dataclass(frozen=True, slots=True)
class Kept:
    """A cut that passed, and where its parts lie."""

    cut: Cut
    verdict: Verdict
    located: Located
    batchable: bool = False

    def entry(self) -> CutEntry:
        cut = self.cut
        return CutEntry(
            name=cut.name,
            tensors=tuple(TensorEntry(name=t.name, wire=t.wire, shape=t.shape, dtype=t.dtype) for t in cut.tensors),
            elements=cut.elements,
            node_index=cut.node_index,
            head_share=round(cut.head_share, 6),
            parity_max_rel=self.verdict.max_rel,
            deterministic=self.verdict.deterministic,
            batchable=self.batchable,
        )


@dataclass
class Trial:
    """The cuts of a shortlist before the whole model and real frames."""

    draft: BundleDraft
    cutting: Cutting
    whole: Whole
    providers: tuple[str, ...]
    parity: Sequence[Sample]
    screening: Sequence[Sample]
    """Without any, every cut that holds parity is kept."""
    fit: Sequence[Sample] = ()
    """What rough calibration tables may be fitted to, for screening alone."""
    rejected: list[Rejected] = field(default_factory=list)
    _passed: list[Kept] = field(default_factory=list)
    _screened: dict[str, Screened] = field(default_factory=dict)

    def run(self, parity_step: Step, screen_step: Step) -> list[Kept]:
        """The cuts that stay. Files of the others leave the draft, their reasons are in `rejected`."""
        cuts = self.cutting.shortlist
        for index, cut in enumerate(cuts):
            parity_step(index / len(cuts))
            screen_step(index / len(cuts))
            rejection = self._examine(cut)
            if rejection is not None:
                self._reject(rejection)
        parity_step(1.0)
        screen_step(1.0)
        if not self.screening:
            return self._passed
        kept, others = keep([passed.cut for passed in self._passed], self._screened)
        for rejection in others:
            self._reject(rejection)
        return [passed for passed in self._passed if passed.cut in kept]

    def _examine(self, cut: Cut) -> Rejected | None:
        session = self.whole.session
        try:
            paths = self.draft.add_cut(cut.name, *split_model(self.cutting.model, cut))
            part = open_part(cut.name, cut.shapes, paths, threads=session.threads, providers=self.providers)
        except ModelError as exc:
            return Rejected(cut.name, "parity", f"its parts can't be made: {exc.message}")
        verdict = check_parity(self.whole, part, self.parity, self.cutting.precision)
        if not verdict.holds:
            return Rejected(cut.name, "parity", verdict.reason)
        if self.screening:
            try:
                screened = screen(self.whole, part, self.screening, self.fit)
            except (CodecError, InferenceError) as exc:
                return Rejected(cut.name, "screen", f"its tensors can't be coded: {exc.message}")
            if screened.bytes_mean > MAX_PAYLOAD_BYTES:
                size = f"{screened.bytes_mean / 1e6:.1f} MB"
                return Rejected(
                    cut.name, "screen", f"sends {size} a frame, a message holds {MAX_PAYLOAD_BYTES / 1e6:.1f}"
                )
            self._screened[cut.name] = screened
        self._passed.append(Kept(cut, verdict, (cut.name, cut.shapes, paths)))
        return None

    def _reject(self, rejection: Rejected) -> None:
        self.draft.drop_cut(rejection.name)
        self.rejected.append(rejection)
