"""Owns the form in which a plan's models are stored: batch axis open where that holds, optimised for the provider.

Every step is proven on frames before it stays. What fails is undone, and the plain form remains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from splitmesh.errors import MeshError, ModelError
from splitmesh.inference.planning.batch import BATCHES, batch_holds
from splitmesh.inference.planning.cutting import Cutting
from splitmesh.inference.planning.examine import Kept
from splitmesh.inference.planning.optimise import optimised_model, optimised_name
from splitmesh.inference.planning.parity import Verdict, check_parity, open_part, same_outputs
from splitmesh.inference.planning.whole import Whole
from splitmesh.inference.session import open_session
from splitmesh.plan.bundle.draft import BundleDraft
from splitmesh.plan.cuts.extract import Arrays, split_model
from splitmesh.plan.footage import Sample, evenly
from splitmesh.plan.graph.batch import open_batch


@dataclass(frozen=True, slots=True)
class Finish:
    """The last step of making parts, one model loaded at a time beside the whole."""

    draft: BundleDraft
    cutting: Cutting
    whole: Whole
    providers: tuple[str, ...]
    parity: Sequence[Sample]
    """At least four, which should differ: pictures of a batch that get mixed up would go unnoticed."""

    def cut(self, kept: Kept) -> Kept:
        """Head and tail in their last form, with the parity of just that form."""
        name, _, (head, tail) = kept.located
        plain = split_model(self.cutting.model, kept.cut)
        opened = [open_batch(model, self.cutting.shapes) for model in plain]
        batchable = False
        if opened[0] is not None and opened[1] is not None:
            self.draft.add_cut(name, opened[0], opened[1])
            inputs = self._inputs()
            batchable = self._batches(head, inputs) and self._batches(tail, self._outputs(head, inputs))
            if not batchable:
                self.draft.add_cut(name, *plain)
        optimised = self._optimise(head, tail)
        verdict = self._verdict(kept)
        if verdict.holds:
            return replace(kept, verdict=verdict, batchable=batchable)
        self._undo(optimised)
        self.draft.add_cut(name, *plain)
        return kept

    def full(self) -> bool:
        """The whole model in its last form. Returns whether it takes any batch."""
        path, plain = self.cutting.full_path, self.cutting.full
        opened = open_batch(plain, self.cutting.shapes)
        batchable = False
        if opened is not None:
            self.draft.add_full(opened)
            batchable = self._batches(path, self._inputs())
            if not batchable:
                self.draft.add_full(plain)
        optimised = self._optimise(path)
        if self._same_whole(path):
            return batchable
        self._undo(optimised)
        self.draft.add_full(plain)
        return False

    def _inputs(self) -> list[Arrays]:
        return [self.whole.inputs(sample.picture) for sample in evenly(self.parity, max(BATCHES))]

    def _outputs(self, path: Path, inputs: Sequence[Arrays]) -> list[Arrays]:
        session = open_session(path, threads=self.whole.session.threads, providers=self.providers, lean=True)
        return [session.run(one) for one in inputs]

    def _batches(self, path: Path, inputs: Sequence[Arrays]) -> bool:
        threads, limit = self.whole.session.threads, self.cutting.precision.limit
        return batch_holds(path, inputs, threads=threads, providers=self.providers, limit=limit)

    def _optimise(self, *paths: Path) -> list[str]:
        """Add the optimised form of each, where the runtime can write it. Returns their file names."""
        added = []
        for path in paths:
            name = optimised_name(path, self.whole.session.provider)
            if name is not None:
                try:
                    self.draft.add_variant(name, optimised_model(path, self.whole.session.provider))
                except ModelError:
                    continue
                added.append(name)
        return added

    def _undo(self, names: Sequence[str]) -> None:
        for name in names:
            self.draft.drop_variant(name)

    def _verdict(self, kept: Kept) -> Verdict:
        part = open_part(*kept.located, threads=self.whole.session.threads, providers=self.providers)
        return check_parity(self.whole, part, self.parity, self.cutting.precision)

    def _same_whole(self, path: Path) -> bool:
        """The file at `path` gives what the whole model gave before it was opened and optimised."""
        try:
            session = open_session(path, threads=self.whole.session.threads, providers=self.providers, lean=True)
            cases = self.whole.cases(self.parity)
            return all(
                same_outputs(session.run(inputs), wanted, self.cutting.precision) for _, inputs, wanted in cases
            )
        except MeshError:
            return False
