"""Owns the unsplit fp32 model's answers on the pictures of a run, and their cache on disk. Refuses live sources."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from splitmesh.errors import MeshError, SourceError
from splitmesh.frames.answer import Answer
from splitmesh.frames.fidelity import agreement, measure_of
from splitmesh.frames.record import FrameRecord
from splitmesh.frames.tensors import Tensors
from splitmesh.inference.session import open_session
from splitmesh.lab.artifacts import write_whole
from splitmesh.lab.summary import Fidelity
from splitmesh.media.captured import Captured
from splitmesh.media.prepare import Preparer
from splitmesh.media.source import open_source
from splitmesh.plan.bundle.format import file_sha256
from splitmesh.plan.bundle.read import Bundle

_SAMPLE_MAX = 600
_SAMPLE_BYTES = 64 * 2**20
"""What the tensors of all references may take together, in memory and in their cache."""
_CACHE_VERSION = 2
_DECODE_WAIT_S = 20.0

Progress = Callable[[str, float], None]
"""Called with what is being done and how much of it is done, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class ReferenceCache:
    """One JSON file per (model, manifest, source): `{"version": 2, "answers": {"<source_index>": answer, …}}` with
    answer `{"answer": …, "tensors": …}`, both as in `results.jsonl`."""

    folder: Path
    model_sha256: str
    manifest_sha256: str
    source_sha256: str

    @property
    def path(self) -> Path:
        parts = (self.model_sha256[:16], self.manifest_sha256[:8], self.source_sha256[:16])
        return self.folder / f"{'-'.join(parts)}.json"

    def read(self) -> dict[int, Answer]:
        """What is there; empty for a missing, older or damaged file: it is rebuilt then."""
        try:
            value = json.loads(self.path.read_text(encoding="utf-8"))
            if value["version"] != _CACHE_VERSION:
                return {}
            return {int(index): _from_json(row) for index, row in value["answers"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, MeshError):
            return {}

    def write(self, answers: dict[int, Answer]) -> None:
        """Replace the file atomically. Raises OutputError."""
        rows = {str(index): _to_json(answer) for index, answer in sorted(answers.items())}
        write_whole(self.path, json.dumps({"version": _CACHE_VERSION, "answers": rows}, allow_nan=False))


def _to_json(answer: Answer) -> dict[str, Any]:
    parts = Tensors.of(answer.tensors).packed()
    return {"answer": answer.to_json(), "tensors": {name: part.to_json() for name, part in parts.items()}}


def _from_json(row: Mapping[str, Any]) -> Answer:
    return Answer.from_json(row["answer"], Tensors.from_json(row["tensors"]))


def even_sample(indexes: Sequence[int], limit: int) -> list[int]:
    """At most `limit` of the sorted distinct `indexes`, evenly spread, first and last included."""
    distinct = sorted(set(indexes))
    if len(distinct) <= limit:
        return distinct
    step = (len(distinct) - 1) / (limit - 1)
    return [distinct[round(i * step)] for i in range(limit)]


def decode_pictures(source: Path, wanted: Sequence[int]) -> Iterator[Captured]:
    """Decode `source` once, as fast as it goes, and yield the pictures whose index is `wanted`, in order.

    The decoder is the same software one every time, so that a reference depends on nothing but model and source.
    """
    left = set(wanted)
    video = open_source(source, pace=False, hwaccel="none")
    try:
        while left:
            captured = video.next(_DECODE_WAIT_S)
            if captured is None:
                return
            if captured.source_index in left:
                left.discard(captured.source_index)
                yield captured
    finally:
        video.close()


def reference_answers(
    bundle: Bundle, source: Path, indexes: Sequence[int], *, cache: Path, threads: int, progress: Progress
) -> dict[int, Answer]:
    """The unsplit model's answer for each of `indexes`, boxes in [0, 1] of the source picture."""
    manifest = hashlib.sha256(bundle.manifest.model_dump_json().encode()).hexdigest()
    store = ReferenceCache(cache, bundle.sha256, manifest, file_sha256(source))
    answers = store.read()
    todo = [index for index in indexes if index not in answers]
    if todo:
        session = open_session(bundle.full_path, threads=threads)
        preparer = Preparer.from_manifest(bundle.manifest)
        postprocess = bundle.postprocess()
        for done, captured in enumerate(decode_pictures(source, todo)):
            if captured.picture is None:
                continue
            prepared = preparer.prepare(captured.picture)
            outputs = session.run({bundle.manifest.input: prepared.tensor})
            answer = prepared.placement.to_source(postprocess(outputs))
            answers[captured.source_index] = replace(answer, tensors=Tensors.of(answer.tensors).compact())
            prepared.release()
            progress("full model on every picture", (done + 1) / len(todo))
        store.write(answers)
    progress("full model on every picture", 1.0)
    return {index: answers[index] for index in indexes if index in answers}


def score_records(kind: str, records: Sequence[FrameRecord], references: dict[int, Answer]) -> dict[int, float]:
    """Agreement of each frame's answer with the reference of its picture, by seq; frames without an answer get 0."""
    scores: dict[int, float] = {}
    for record in records:
        reference = references.get(record.source_index)
        if reference is not None:
            scores[record.seq] = agreement(kind, record.answer, reference) if record.outcome.answered else 0.0
    return scores


def measure_fidelity(
    bundle: Bundle, source: str, records: Sequence[FrameRecord], *, cache: Path, threads: int, progress: Progress
) -> Fidelity:
    """Fidelity of a run, or why it can't be had. At most 600 distinct pictures, evenly spread, are looked at; fewer
    where answers are large.
    """
    path = Path(source)
    if not path.is_file():
        return Fidelity.none("not measured: the source is live, so its pictures can't be read again")
    if not records:
        return Fidelity.none("not measured: the run has no frames")
    left_out = max(record.left_out_bytes for record in records)
    if left_out:
        return Fidelity.none(f"not measured: answers of {left_out} bytes were too large for results.jsonl")
    largest = max(Tensors.of(record.answer.tensors).held_bytes for record in records)
    limit = max(2, min(_SAMPLE_MAX, _SAMPLE_BYTES // max(largest, 1)))
    indexes = even_sample([record.source_index for record in records], limit)
    try:
        references = reference_answers(bundle, path, indexes, cache=cache, threads=threads, progress=progress)
    except SourceError as exc:
        return Fidelity.none(f"not measured: {exc}")
    kind = bundle.manifest.postprocess.kind
    return Fidelity(score_records(kind, records, references), len(references), measure=measure_of(kind))
