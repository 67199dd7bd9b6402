"""`meshload` as a user meets it: what it prints and writes, its exit status, what is left when something breaks."""

from __future__ import annotations

import csv
import importlib
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from meshload_rig import PROJECT, meshload, server

from meshload.cli.main import COMMANDS, EXIT_DIED, EXIT_LOST, EXIT_SLO
from meshload.cli.options import spec_of
from meshload.targets import SCHEMES
from splitmesh.cli.outer import EXIT_INTERRUPTED

FAST = ("-R", "100", "-d", "1s", "--arrivals", "constant")


def test_a_run_prints_a_report_and_writes_its_files(tmp_path: Path) -> None:
    files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "csv", "html")}
    options = [word for kind, file in files.items() for word in (f"--{kind}", str(file))]
    with server("http") as (port, _):
        url = f"http://127.0.0.1:{port}/x"
        promised = ("--deadline", "2s", "--slo", "hit>0.5", "--tenants", "a:3,b:1")
        done = meshload("-R", "50", "-d", "2s", *promised, *options, url)
        strict = meshload(*FAST, "-q", "--slo", "p50<0.000001ms", url)
    assert done.returncode == 0, done.stderr
    assert (
        "answered within 2000 ms" in done.stdout and "kept    hit>0.5" in done.stdout and "by second" in done.stdout
    )
    figures = json.loads(files["json"].read_text())
    assert figures["requests"]["ok"] == figures["requests"]["offered"] > 50 and set(figures["tenants"]) == {"a", "b"}
    assert (
        len(list(csv.DictReader(files["csv"].read_text().splitlines()))) == 2 and "<svg" in files["html"].read_text()
    )
    assert strict.returncode == 3 and strict.stdout == ""


def test_merge_and_diff_read_what_runs_wrote(tmp_path: Path) -> None:
    one, two, both = (str(tmp_path / name) for name in ("one.json", "two.json", "both.json"))
    with server("http") as (port, _):
        for file in (one, two):
            assert meshload(*FAST, "-q", "--json", file, f"http://127.0.0.1:{port}/").returncode == 0
    assert meshload("merge", one, two, "-o", both).returncode == 0
    merged = json.loads(Path(both).read_text())
    assert merged["requests"]["ok"] == 200 and merged["asked_rps"] == 200
    shown = meshload("diff", one, two)
    assert shown.returncode == 0 and "nothing is stated" in shown.stdout
    assert meshload("diff", one, __file__).returncode == 2


def test_a_link_in_between_is_felt_and_told(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    with server("http") as (port, _):
        url = f"http://127.0.0.1:{port}/"
        done = meshload("-R", "20", "-d", "2s", "-q", "--link", "3g", "--json", str(file), url)
        missing = meshload(*FAST, "--link", "no-such-link", url)
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
    assert figures["target"] == url and figures["link"] and figures["link_seconds"]
    assert figures["service_ms"]["p50"] > 20, "a 3G uplink takes its time"
    assert missing.returncode == 2 and "--link" in missing.stderr


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (["http://127.0.0.1:1/"], 1, "error: http://127.0.0.1:1/: connection refused"),
        (["nats-raw://127.0.0.1:1/x"], 1, "error: nats-raw://127.0.0.1:1/x: connection refused"),
        (["-t", "2", "http://127.0.0.1:1/"], 1, "error: http://127.0.0.1:1/: connection refused"),
        (["http://no-such-host.invalid/"], 1, "its host name is not known"),
        (["gopher://h/"], 1, "no target has this scheme"),
        (["-d", "soon", "http://h/"], 2, "error: -d: 'soon' is no duration"),
        (["--stages", "5s", "http://h/"], 2, "--stages: '5s' is no stage"),
        (["--stages", "5s@5", "-R", "5", "http://h/"], 2, "takes the place of -R"),
        (["--arrivals", "trace:/no/file", "http://h/"], 2, "--arrivals trace:/no/file"),
        (["--slo", "p99", "http://h/"], 2, "--slo: 'p99' is no promise"),
        (["--json", "/proc/x/y.json", "http://h/"], 2, "can't be written"),
        (["--rate", "-5", "http://h/"], 2, "-R -5 is not a rate"),
        (["--nonsense", "http://h/"], 2, "No such option"),
        ([], 2, "Missing argument"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)  # fmt: skip
def test_what_can_not_be_is_said_in_a_line(words: list[str], status: int, complaint: str) -> None:
    done = meshload(*words)
    assert done.returncode == status and complaint in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_reader_that_goes_ends_it_quietly() -> None:
    """As `meshload --help | head -1`."""
    with subprocess.Popen(
        [sys.executable, "-m", "meshload.cli.main", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as shown:
        assert shown.stdout and shown.stderr
        shown.stdout.close()
        assert shown.stderr.read() == b"" and shown.wait(30) == 1


def test_another_protocol_is_recognised() -> None:
    with server("http") as (port, _):
        done = meshload("--connect-timeout", "1s", f"nats-raw://127.0.0.1:{port}/x")
        tls = meshload(*FAST, f"https://127.0.0.1:{port}/")
    assert done.returncode == 1 and "127.0.0.1" in done.stderr and "Traceback" not in done.stderr
    assert tls.returncode == 1 and "TLS" in tls.stderr


def running(port: int, file: Path, *options: str) -> subprocess.Popen[str]:
    url = f"http://127.0.0.1:{port}/"
    command = [sys.executable, "-m", "meshload.cli.main", "-R", "100", *options, "--json", str(file), url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_server_that_dies_leaves_partial_results(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    with server("http", "--tell", "50") as (port, child):
        load = running(port, file, "-d", "5s")
        assert child.stdout and json.loads(child.stdout.readline()) == {"requests": 50}
        child.kill()
        out, _ = load.communicate(timeout=60)
    figures = json.loads(file.read_text())
    assert load.returncode == 4 and figures["counts"]["lost"]
    assert figures["requests"]["ok"] > 0 and figures["requests"]["error"] > 0
    assert set(figures["errors"]) <= {"connection lost", "connection refused", "can't connect"}
    assert "the last error came" in out and "not back by the end" in out


@pytest.mark.parametrize("processes", ["1", "2"])
def test_ctrl_c_keeps_what_was_counted(tmp_path: Path, processes: str) -> None:
    file = tmp_path / "out.json"
    with server("http", "--tell", "50") as (port, child):
        load = running(port, file, "-d", "60s", "-t", processes)
        assert child.stdout and json.loads(child.stdout.readline()) == {"requests": 50}
        os.kill(load.pid, signal.SIGINT)
        out, err = load.communicate(timeout=30)
    assert load.returncode == 130 and "counting what came until now" in err
    figures = json.loads(file.read_text())
    assert figures["interrupted"] and figures["requests"]["ok"] > 5 and figures["duration_s"] < 30
    assert "interrupted after" in out


@pytest.mark.parametrize("dying", [1, 2])
def test_a_process_that_dies_leaves_what_it_had_reported(tmp_path: Path, dying: int) -> None:
    """Of two, 50 requests a second each; the first reports come after a second, the kill after at least two."""
    files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "html")}
    more = ("--arrivals", "constant", "-t", "2", "-d", "5s", "--html", str(files["html"]))
    with server("http", "--tell", "250") as (port, child):
        load = running(port, files["json"], *more)
        assert child.stdout and json.loads(child.stdout.readline()) == {"requests": 250}
        processes = Path(f"/proc/{load.pid}/task/{load.pid}/children").read_text().split()
        assert len(processes) == 2
        for process in processes[:dying]:
            os.kill(int(process), signal.SIGKILL)
        out, err = load.communicate(timeout=60)
    figures = json.loads(files["json"].read_text())
    requests = figures["requests"]
    assert load.returncode == EXIT_DIED and "Traceback" not in err
    assert requests["offered"] == sum(requests[name] for name in ("ok", "refused", "error", "timeout", "unsent"))
    alive = 250 * (2 - dying)
    assert alive + 40 * dying <= requests["ok"] <= alive + 125 * dying, "whole seconds of what has gone"
    assert [death["status"] for death in figures["counts"]["died"]] == [-9] * dying
    for told in (out, files["html"].read_text()):
        assert told.count("DIED: it was killed by SIGKILL") == dying and "is not known" in told
    assert figures["duration_s"] == 5 if dying == 1 else 1 <= figures["duration_s"] < 5


def check_example(words: list[str]) -> bool:
    """Its options are those of its command, and mean a run; whether it is `meshload [run]` itself."""
    name = words[0] if words[0] in COMMANDS else "run"
    module, _, attribute = COMMANDS[name].partition(":")
    command = getattr(importlib.import_module(module), attribute)
    values = command.make_context(name, words[name != "run" :]).params
    if name == "run":
        assert spec_of(values["target"], values).measured_s > 0
    return name == "run"


def test_help_shows_examples_that_parse() -> None:
    shown = meshload("--help").stdout
    assert "Examples:" in shown and "Exit status:" in shown
    lines = [line.split("     ")[0] for line in shown.splitlines() if line.startswith("    meshload ")]
    assert sum(check_example(shlex.split(line)[1:]) for line in lines) >= 4
    named = shown[shown.index("Other commands") :].partition(": ")[2].partition(".")[0].split(", ")
    assert named == list(COMMANDS)[1:] and {line.split()[1] for line in lines} >= {"find", "diff", "record", "replay"}
    for name in named:
        other = meshload(name, "--help").stdout
        examples = [line for line in other.splitlines() if line.startswith(f"    meshload {name} ")]
        assert examples and not any(check_example(shlex.split(line)[1:]) for line in examples)


def test_examples_of_the_document_parse() -> None:
    document = (PROJECT / "docs/meshload.md").read_text(encoding="utf-8")
    lines = [shlex.split(line)[2:] for line in document.splitlines() if line.startswith("$ meshload ")]
    assert sum(check_example(words) for words in lines) >= 4
    assert {words[0] for words in lines} >= {"find", "diff", "record", "replay"}


def test_the_document_shows_every_status_scheme_and_key_that_is_promised() -> None:
    document = (PROJECT / "docs/meshload.md").read_text(encoding="utf-8")
    for status in (0, 1, 2, EXIT_SLO, EXIT_LOST, EXIT_DIED, EXIT_INTERRUPTED):
        assert f"| {status} |" in document
    assert all(f"`{scheme}://" in document for scheme in SCHEMES)
