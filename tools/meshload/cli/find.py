"""Owns `meshload find`: the highest rate that keeps a promise, one run after the other, each of them told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from meshload import text
from meshload.cli.options import REQUESTS, SHARED, options, spec_of
from meshload.cli.run import EPILOG, check_writable
from meshload.cli.session import put_load
from meshload.errors import LoadError
from meshload.loop import run_loop
from meshload.search import Search
from meshload.slo import Verdict, check_all, parse_slo
from meshload.spec import RunSpec
from meshload.verdict import is_generator_bound
from splitmesh.errors import MeshError

_ENDS = {
    "generator": "then the generator was too slow itself: give more processes (-t) or another machine",
    "lost": "then the target was lost",
    "died": "then a process of the generator died",
    "interrupted": "then it was interrupted",
}
_STATUSES = {"lost": 4, "died": 5, "interrupted": 130}
FIND = [
    click.option("--slo", required=True, metavar="PROMISES", help="What has to be kept: 'p99<120ms,hit>0.99'."),
    click.option("--from", "rate", type=float, default=100.0, metavar="RATE", help="First try.  [default: 100]"),
    click.option("--to", "most", type=float, default=1e6, metavar="RATE", help="Never above.  [default: 1000000]"),
    click.option("-d", "--duration", default="10s", metavar="TIME", help="Measured per try.  [default: 10s]"),
    click.option("--warmup", default="2s", metavar="TIME", help="Before each, not counted.  [default: 2s]"),
    click.option("--arrivals", default="poisson", metavar="KIND", help="constant, poisson or bursty."),
    click.option("--precision", type=float, default=0.05, metavar="SHARE", help="How close.  [default: 0.05]"),
    click.option("--tries", type=int, default=20, metavar="N", help="At most so many.  [default: 20]"),
    click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
                 help="Every try, for programs."),
]  # fmt: skip


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=EPILOG[: EPILOG.index("\b\nExamples")]
    + "\b\nExamples:\n  meshload find --slo 'p99<100ms,hit>0.99' --deadline 150ms nats://127.0.0.1/default/coco-ssdlite\n",
)
@click.argument("target")
@options(FIND, REQUESTS, SHARED)
def find(
    target: str, slo: str, most: float, precision: float, tries: int, json_file: Path | None, **values: Any
) -> int:
    """Find the highest rate at which TARGET keeps the promises of --slo.

    The rate is doubled until they break, then the gap is halved (geometrically) until it is within --precision.
    Where nothing is answered, or the target is gone at the end, they are broken. Ends at once when they break while
    the generator itself is too slow: then the limit may not be the server's. What was tried until then is told.
    """
    promises = parse_slo(slo)
    if not 0 < precision < 1 or tries < 1 or not 0 < values["rate"] <= most:
        raise LoadError("--precision is a share of 1, --tries at least 1, --from above 0 and not above --to")
    if values["edges"]:
        raise LoadError("find varies the rate: --edges has its own")
    if json_file:
        check_writable(json_file)
    link = values.pop("link")
    spec = spec_of(target, values | {"closed": False, "stages": None})
    search = Search(values["rate"], precision=precision, tries=tries, most_rps=most)
    tried: list[dict[str, Any]] = []
    ended = ""
    click.echo(f"{'rate/s':>10}{'kept/s':>10}{'p50 ms':>10}{'p99 ms':>10}{'hit':>10}   promises")
    while not (search.done or ended):
        length = spec.measured_s
        try:
            figures = run_loop(
                put_load(replace(spec, stages=((length, search.rate_rps, search.rate_rps),)), link=link)
            )
        except MeshError as exc:
            if not tried:
                raise
            click.echo(f"! {exc}")
            ended = "lost"
            break
        broken = _broken(figures, check_all(promises, figures))
        tried.append(_told(search.rate_rps, figures, broken))
        click.echo(_line(search.rate_rps, figures, broken))
        for death in figures["died"]:
            click.echo(f"! {death}")
        ended = _end(figures, kept=not broken)
        if not ended:
            search.tell(not broken)
    found = {"rate_rps": search.kept_rps, "broken_rps": search.broken_rps, "generator_bound": ended == "generator"}
    if json_file:
        json_file.write_text(json.dumps(found | {"ended": ended, "tries": tried}) + "\n", encoding="utf-8")
    click.echo(_sentence(spec, search, ended))
    return _STATUSES.get(ended, 0 if search.kept_rps else 3)


def _broken(figures: Mapping[str, Any], verdicts: tuple[Verdict, ...]) -> list[str]:
    """The promises that were not kept. A target that is gone keeps none, whatever it answered before."""
    broken = [verdict.promise.text for verdict in verdicts if not verdict.kept]
    return [*broken, "the target was lost"] if figures["counts"]["lost"] else broken


def _end(figures: Mapping[str, Any], *, kept: bool) -> str:
    """Why the search ends with this try; "": it goes on."""
    if figures["interrupted"]:
        return "interrupted"
    if figures["died"]:
        return "died"
    slow = not kept and not figures["counts"]["lost"] and is_generator_bound(figures)
    return "generator" if slow else ""


def _told(rate_rps: float, figures: Mapping[str, Any], broken: Sequence[str]) -> dict[str, Any]:
    keys = ("kept_rps", "achieved_rps", "goodput_rps", "hit", "latency_ms", "generator", "errors", "refused")
    told = {key: figures[key] for key in (*keys, "died", "notes")}
    return {"asked_rps": rate_rps, "kept": not broken, "broken": list(broken)} | told


def _line(rate_rps: float, figures: Mapping[str, Any], broken: Sequence[str]) -> str:
    latency = figures["latency_ms"]
    return (
        f"{rate_rps:>10,.1f}{figures['kept_rps']:>10,.1f}{text.amount(latency['p50']):>10}"
        f"{text.amount(latency['p99']):>10}{text.percent(figures['hit']):>10}   "
        + (f"broken: {', '.join(broken)}" if broken else "kept")
    )


def _sentence(spec: RunSpec, search: Search, ended: str) -> str:
    kept = f"{search.kept_rps:,.1f} requests/s are kept" if search.kept_rps else "no rate is known to be kept"
    if ended:
        return f"{kept}; {_ENDS[ended]}"
    if search.kept_rps is None:
        return f"no rate down to {search.broken_rps or search.rate_rps:,.3g} requests/s keeps the promises"
    if search.broken_rps is None:
        return f"{kept}, the most that was tried"
    return f"{kept}, {search.broken_rps:,.1f} are not ({spec.measured_s:g} s each)"
