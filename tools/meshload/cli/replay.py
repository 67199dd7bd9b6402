"""Owns `meshload replay`: what was recorded is asked again, faster or slower, and reported like any other run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from meshload.cli.options import SHARED, options, spec_of
from meshload.cli.run import OUTPUT, files_of, told
from meshload.errors import LoadError
from meshload.recording.entries import Recording, Survey
from meshload.recording.replay import Payloads, Replay
from meshload.slo import parse_slo
from meshload.spec import RunSpec
from meshload.stages import duration_s
from meshload.targets import split

REPLAY = [
    click.option("--speed", type=float, default=1.0, metavar="K", help="K times as fast.  [default: 1]"),
    click.option("-d", "--duration", metavar="TIME", help="Only so much of it.  [default: all]"),
    click.option("--warmup", default="0s", metavar="TIME", help="Of that the beginning, not counted.  [default: 0s]"),
    click.option("--deadline", metavar="TIME", help="Of every request.  [default: the budgets that were recorded]"),
    click.option("--payload", metavar="WHAT", help="In place of what was recorded, as of `meshload`."),
]  # fmt: skip


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("target")
@options(REPLAY, SHARED, OUTPUT)
def replay(file: Path, target: str, slo: str | None, quiet: bool, link: str | None, **values: Any) -> int:
    """Ask TARGET again what `meshload record` heard, as it came or --speed times as fast.

    Tenant and model are those of TARGET. Ids and traces are new; each request has the budget that it had, counted
    from when it is meant to leave. Payloads that build on each other go to one worker, in order. A recording made
    with --no-payloads is asked with made-up ones of the same sizes: pictures for the mesh, bytes for other servers.

    \b
    Examples:
      meshload replay busy.rec nats://127.0.0.1/default/coco-ssdlite
      meshload replay busy.rec --speed 2 --html out.html nats://127.0.0.1/default/coco-ssdlite
      meshload replay busy.rec --deadline 150ms --slo 'hit>0.99' http://127.0.0.1:8000/infer

    Exit status: as of `meshload`.
    """
    promises = parse_slo(slo) if slo else ()
    spec = replay_spec(file, target, values)
    return told(spec, files_of(values), promises, link=link, quiet=quiet)


def replay_spec(file: Path, target: str, values: dict[str, Any]) -> RunSpec:
    """The run that options mean. Reads the whole file. Raises LoadError that names what is wrong."""
    speed = values["speed"]
    if not 0.001 <= speed <= 1000:
        raise LoadError(f"--speed {speed:g} is not 0.001 to 1000")
    survey = Recording(file).survey()
    model = _model(survey, target)
    asked = sum(n for (name, _), n in survey.works.items() if model in ("", name))
    if not asked:
        raise LoadError(f"{file} holds no request that can be asked again", advice=_orphans(survey))
    total_s = survey.end.duration_ns / 1e9 / speed
    length_s = min(duration_s(values["duration"], what="-d"), total_s) if values["duration"] else total_s
    warmup_s = duration_s(values["warmup"], what="--warmup")
    rate = asked / total_s
    measured_s = length_s - warmup_s
    if measured_s <= 0:
        raise LoadError(f"of {length_s:.3g} s nothing is left to measure", advice="change -d or --warmup")
    made = spec_of(
        target, values | {"closed": False, "edges": 0, "fps": None, "tenants": None, "duration": f"{total_s:.9f}s"}
    )
    payloads: Payloads = "given" if values["payload"] else _payloads(survey, target, file)
    again = Replay(
        file=str(file),
        speed=speed,
        model=model,
        payloads=payloads,
        deadline_ns=made.deadline_ns,
        streams=payloads == "recorded" and survey.on_streams > 0,
        note=_note(file, survey, asked, payloads),
    )
    budgets_ms = (round(survey.budgets_us[0] / 1e3, 1), round(survey.budgets_us[1] / 1e3, 1))
    return replace(
        made,
        arrivals="recorded",
        replay=again,
        stages=((measured_s, rate, rate),),
        deadline_ms=made.deadline_ms if made.deadline_ns else budgets_ms,
    )


def _model(survey: Survey, target: str) -> str:
    """Which of the recorded models is asked for again; "": all of them, whatever the target makes of them."""
    parts = split(target)
    if parts.scheme != "nats":
        return ""
    names = parts.path.strip("/").split("/")
    if len(names) > 2:
        raise LoadError("requests of a recording have cuts of their own", advice="write nats://host/tenant/model")
    models = {name for name, _ in survey.works}
    if len(models) > 1 and names[-1] not in models:
        raise LoadError(
            f"it was recorded for {', '.join(sorted(models))}, not for {names[-1]}", advice="name one of these"
        )
    return names[-1] if len(models) > 1 else ""


def _payloads(survey: Survey, target: str, file: Path) -> Payloads:
    mesh = split(target).scheme == "nats"
    if survey.head.payloads:
        return "recorded" if mesh else "bodies"
    cuts = sorted({cut for _, cut in survey.works if cut})
    if mesh and cuts:
        raise LoadError(
            f"{file} was recorded without payloads, and tensors of cut {', '.join(cuts)} can't be made up",
            advice="say what to send: --payload features:PLAN:POINT",
        )
    return "pictures" if mesh else "bytes"


def _note(file: Path, survey: Survey, asked: int, payloads: Payloads) -> str:
    """What is asked again, and what is not."""
    found = survey.works.total()
    told = [f"{asked:,} requests of {len(survey.edges)} edge{'s' * (len(survey.edges) != 1)} in {file.name}"]
    told.append(f"{survey.payload_bytes / max(found, 1):,.0f} bytes each")
    if payloads in ("pictures", "bytes"):
        told.append(f"{payloads} made up in their sizes")
    if payloads == "given":
        told.append("payloads from --payload")
    if found > asked:
        told.append(f"{found - asked:,} for other models are left out")
    if survey.orphans:
        told.append(_orphans(survey))
    if survey.end.why == "cut short":
        told.append("the recording was cut short")
    return "; ".join(told)


def _orphans(survey: Survey) -> str:
    if not survey.orphans:
        return ""
    return f"{survey.orphans:,} are left out: they build on frames from before the recording, which began too late"
