"""Owns `splitmesh lab`: the order of its stages and its exit status. Each stage lives in a module of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import webbrowser
from dataclasses import dataclass
from pathlib import Path

from splitmesh.errors import MeshError
from splitmesh.lab.artifacts import make_folder, to_json, versions, write_whole
from splitmesh.lab.child import ChildError
from splitmesh.lab.commands import share_cores
from splitmesh.lab.display import Display
from splitmesh.lab.fate import WorkerFate, worker_fate
from splitmesh.lab.film import film_run
from splitmesh.lab.mesh import Mesh
from splitmesh.lab.plots import PlotData, as_png, draw
from splitmesh.lab.records import RunRecords, read_jsonl, read_records
from splitmesh.lab.references import measure_fidelity
from splitmesh.lab.report import render_report
from splitmesh.lab.setup import MeshSetup
from splitmesh.lab.stages import Ingredients, gather
from splitmesh.lab.summary import Fidelity, RunFacts, summarise
from splitmesh.lab.supervise import StreamOutcome, run_mesh
from splitmesh.lab.truth import LinkTruth, emulation_report
from splitmesh.models.fetch import default_cache
from splitmesh.plan.bundle.choice import points_for
from splitmesh.policy.baselines import make_policy
from splitmesh.provision.link.presets import load_link
from splitmesh.settings.model import LabSettings

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class LabRun:
    """A run that has ended: what it was made of and what it left."""

    settings: LabSettings
    ingredients: Ingredients
    out: Path
    truth: LinkTruth
    outcome: StreamOutcome
    records: RunRecords

    @property
    def duration_s(self) -> float:
        ends = (r.captured_ns / 1e9 + (r.latency_ms or 0.0) / 1e3 for r in self.records.records)
        return max(ends, default=0.0)


def run(settings: LabSettings) -> int:
    """Run the lab; 0 if every frame was accounted for, 1 if not or if the edge failed, 130 if nothing was run.

    Raises MeshError for what keeps it from starting.
    """
    logging.getLogger().setLevel(logging.WARNING)  # the display tells what happens; the children log to files
    on_stdout = settings.json_out == Path("-")
    display = Display(quiet=settings.quiet, stream=sys.stderr if on_stdout else None)
    link = load_link(settings.link, duration_s=settings.duration_s, outages=settings.outage)
    ingredients = gather(settings, display)
    points = points_for(settings.policy, ingredients.bundle)
    make_policy(settings.policy, points)  # a wrong name shall fail here, not in a child's log
    out = make_folder(settings.out)
    outcome = _stream(settings, display, ingredients, out, LinkTruth(link))
    if outcome is None:
        display.say("interrupted before the first frame")
        return EXIT_INTERRUPTED
    records = read_records(
        out / "results.jsonl",
        expected=int(outcome.edge_status.get("captured", 0)),
        exact=bool(outcome.edge_status.get("finished", False)),
    )
    return _conclude(LabRun(settings, ingredients, out, outcome.truth, outcome, records), display)


def _stream(
    settings: LabSettings, display: Display, ingredients: Ingredients, out: Path, truth: LinkTruth
) -> StreamOutcome | None:
    """The live part; None if it was interrupted before it began."""
    available = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
    cores = share_cores(available, edge_threads=settings.threads)
    for stale in ("results.jsonl", "summary.json", "report.html", "report.png", "annotated.mp4", "link.jsonl"):
        (out / stale).unlink(missing_ok=True)
    setup = MeshSetup(settings, ingredients.source, ingredients.bundle.folder, out, cores)

    def on_page(url: str) -> None:
        if not settings.quiet:
            display.say(f"page: {url}", style="bold")
        if settings.open_page:
            threading.Thread(target=webbrowser.open, args=(url,), name="browser", daemon=True).start()

    if not settings.quiet:
        display.say(f"{truth.trace.describe()}; edge ×{settings.edge_slowdown:g} slower; cores: {cores}")
    try:
        return asyncio.run(
            run_mesh(
                Mesh(setup),
                display,
                duration_s=settings.duration_s,
                fates=_fates(settings, setup.worker_names),
                truth=truth,
                on_page=on_page,
            )
        )
    except ChildError as exc:
        raise MeshError(exc.message, advice=exc.advice) from exc


def _fates(settings: LabSettings, workers: list[str]) -> dict[str, WorkerFate]:
    """The first worker is the one that is killed on time."""
    first, *others = workers
    fates = {first: worker_fate(settings.kill_worker_s, settings.restart_worker_s)}
    return fates | {name: worker_fate(None, None) for name in others}


def _conclude(lab: LabRun, display: Display) -> int:
    """Measure, tell and write; what fails here costs its own artifact, never the summary."""
    fidelity = _fidelity(lab, display)
    facts = _facts(lab)
    summary = summarise(lab.records, facts, fidelity, lab.ingredients.bundle.plan.rows)
    write_whole(lab.out / "summary.json", to_json(summary))
    data = PlotData(
        records=lab.records.records,
        deadline_ms=facts.deadline_ms,
        duration_s=facts.duration_s,
        fidelity=fidelity.by_seq,
        capacity=lab.truth.capacity(facts.duration_s),
        outages=facts.outages,
        kills=facts.worker_kills,
        title=f"splitmesh lab · {facts.policy} · link {facts.link} · deadline {facts.deadline_ms:g} ms",
    )
    if not lab.settings.no_video:
        _film(lab, display)
    with display.stage("report"):
        write_whole(lab.out / "report.png", as_png(draw(data)))
        files = [path.name for path in lab.out.iterdir()]
        write_whole(lab.out / "report.html", render_report(summary, data, files=files))
    if lab.settings.json_out == Path("-"):
        sys.stdout.write(to_json(summary))
        sys.stdout.flush()
    elif lab.settings.json_out is not None:
        write_whole(lab.settings.json_out, to_json(summary))
    display.summary(summary)
    if not lab.settings.quiet:
        display.say(f"{lab.out / 'report.html'}")
    return EXIT_OK if summary["conserved"] and not lab.outcome.edge_failed else EXIT_FAILED


def _fidelity(lab: LabRun, display: Display) -> Fidelity:
    try:
        with display.stage("fidelity: full model on every picture") as stage:
            return measure_fidelity(
                lab.ingredients.bundle,
                lab.ingredients.source,
                lab.records.records,
                cache=default_cache() / "references",
                threads=max(1, os.cpu_count() or 1),
                progress=stage.report,
            )
    except KeyboardInterrupt:
        return Fidelity.none("not measured: interrupted")
    except MeshError as exc:
        display.fault("fidelity was not measured", str(exc))
        return Fidelity.none(f"not measured: {exc}")


def _film(lab: LabRun, display: Display) -> None:
    source = Path(lab.ingredients.source)
    if not source.is_file():
        return
    manifest = lab.ingredients.bundle.manifest
    try:
        with display.stage("annotated video") as stage:
            film_run(lab.out / "annotated.mp4", source, lab.records.records, manifest, stage.report)
    except KeyboardInterrupt:
        display.say("the annotated video was cut short", style="yellow")
    except MeshError as exc:
        display.fault("no annotated video", str(exc))


def _facts(lab: LabRun) -> RunFacts:
    settings, records = lab.settings, lab.records.records
    error = lab.truth.estimate_error(records)
    return RunFacts(
        policy=settings.policy,
        model=lab.ingredients.model.manifest.name,
        model_sha256=lab.ingredients.bundle.sha256,
        source=lab.ingredients.shown_source,
        link=lab.truth.trace.name,
        deadline_ms=settings.deadline_ms,
        duration_s=lab.duration_s,
        edge_slowdown=settings.edge_slowdown,
        outages=lab.truth.outages(lab.duration_s or settings.duration_s),
        worker_kills=tuple(lab.outcome.worker_kills),
        strikes=tuple(lab.outcome.strikes),
        link_accuracy={
            **emulation_report(read_jsonl(lab.out / "link.jsonl")),
            "estimate_median_error": None if error is None else round(error, 4),
        },
        versions=versions(),
        incidents=tuple(lab.outcome.incidents),
        interrupted=lab.outcome.interrupted,
    )
