"""Owns `meshload TARGET`: one run, its report, its files, and the exit status that its promises give."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from meshload import text
from meshload.cli.options import LOAD, REQUESTS, SHARED, options, spec_of
from meshload.cli.session import put_load
from meshload.errors import LoadError
from meshload.loop import run_loop
from meshload.page import render_page
from meshload.slo import Promise, check_all, parse_slo
from meshload.spec import RunSpec
from meshload.table import csv_of

_FILE = click.Path(path_type=Path, dir_okay=False)
OUTPUT = [
    click.option(
        "--json", "json_file", type=_FILE, metavar="FILE", help="All figures, for programs, merge and diff."
    ),
    click.option("--csv", "csv_file", type=_FILE, metavar="FILE", help="One row per second."),
    click.option(
        "--html", "html_file", type=_FILE, metavar="FILE", help="One page with plots, no other files needed."
    ),
    click.option("--slo", metavar="PROMISES", help="Exit with 3 if broken: 'p99<120ms,hit>0.99'."),
    click.option("-q", "--quiet", is_flag=True, help="No live line and no report; files and exit status only."),
]

EPILOG = """\b
Targets:
  nats://host[:port]/tenant/model[/cut]   workers of the mesh, in its own protocol
  nats-raw://host[:port]/subject          any responder on NATS
  http[s]://host[:port]/path              HTTP/1.1, with --http2 HTTP/2
  grpc[s]://host:port/pkg.Service/Method  any method, found by server reflection
  kserve[s]://host:port/model             KServe v2, the Open Inference Protocol

\b
Examples:
  meshload -R 500 -d 30s --deadline 150ms nats://127.0.0.1/default/coco-ssdlite
  meshload --stages 30s@100,60s@500,ramp:60s@2000 --html out.html http://127.0.0.1:8000/infer
  meshload --edges 10000 --fps 1 --slo 'p99<120ms,hit>0.99' nats://127.0.0.1/default/coco-ssdlite
  meshload --closed -c 64 --method GET http://127.0.0.1:8000/     like wrk
  meshload find --slo 'p99<100ms' http://127.0.0.1:8000/infer     the highest rate that keeps it
  meshload diff before.json after.json                            is it really faster?
  meshload record nats://127.0.0.1/default -o busy.rec            what edges ask of a live mesh
  meshload replay busy.rec --speed 2 nats://127.0.0.1/default/coco-ssdlite

\b
Other commands (meshload COMMAND --help): find, merge, diff, record, replay.

\b
Exit status:
  0 done, promises kept    1 the target can't be used    2 wrong usage    3 a promise of --slo is broken
  4 no request was answered, or the target was lost and not back by the end
  5 a process of -t died: the figures lack what it had not reported    130 interrupted    (results are kept in both)
"""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, epilog=EPILOG)
@click.version_option(package_name="splitmesh", prog_name="meshload")
@click.argument("target")
@options(LOAD, REQUESTS, SHARED, OUTPUT)
def run(target: str, slo: str | None, quiet: bool, link: str | None, **values: Any) -> int:
    """Put load on TARGET and say how it takes it.

    Open loop: requests leave when the schedule says, whether or not the server keeps up, and latency counts from
    that moment. So a server that stalls can't hide it.
    """
    spec = spec_of(target, values)
    promises = parse_slo(slo) if slo else ()
    files = files_of(values)
    return told(spec, files, promises, link=link, quiet=quiet)


def told(
    spec: RunSpec, files: Mapping[str, Path | None], promises: Sequence[Promise], *, link: str | None, quiet: bool
) -> int:
    """Run `spec`, report it, write `files`; the exit status."""
    figures = run_loop(put_load(spec, link=link, quiet=quiet))
    verdicts = check_all(promises, figures)
    figures["slo"] = [{"promise": v.promise.text, "found": v.found, "kept": v.kept} for v in verdicts]
    write(files, figures)
    if not quiet:
        click.echo(text.report(figures))
        for verdict in verdicts:
            click.echo(f"  {verdict}")
    return status_of(figures)


def files_of(values: Mapping[str, Any]) -> dict[str, Path | None]:
    """What --json, --csv and --html name. Raises LoadError for what can't be written."""
    files: dict[str, Path | None] = {name: values[f"{name}_file"] for name in ("json", "csv", "html")}
    for file in filter(None, files.values()):
        check_writable(file)
    return files


def status_of(figures: Mapping[str, Any]) -> int:
    """See `EPILOG`; the first of 130, 5, 4, 3 that holds, else 0."""
    if figures["interrupted"]:
        return 130
    if figures["died"]:
        return 5
    if not figures["requests"]["ok"] or figures["counts"]["lost"]:
        return 4
    return 0 if all(found["kept"] for found in figures["slo"]) else 3


def check_writable(file: Path) -> None:
    """Better now than after the run. Raises LoadError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a").close()
    except OSError as exc:
        raise LoadError(f"{file} can't be written: {exc.strerror}", advice="choose another place") from exc


def write(files: Mapping[str, Path | None], figures: Mapping[str, Any]) -> None:
    """The files of a run: json, csv, html. Raises LoadError."""
    makers: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
        "json": lambda figures: json.dumps(figures) + "\n",
        "csv": csv_of,
        "html": render_page,
    }
    for kind, file in files.items():
        if file:
            try:
                file.write_text(makers[kind](figures), encoding="utf-8")
            except OSError as exc:
                raise LoadError(f"{file} can't be written: {exc.strerror}") from exc
