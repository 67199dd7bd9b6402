"""What the benchmark of meshload reads and shows: wrk's output, servers' distributions, rows of the table."""

from __future__ import annotations

import json
import math
import os
import random
import socket
from pathlib import Path

import pytest
from bench import meshload_wrk_plot
from bench.meshload_plot import draw, table
from bench.meshload_runs import noop_server, wrk_figures
from bench.meshload_servers import Latency
from bench.meshload_wrk import ahead_of_others, bottleneck

WRK = """Running 5s test @ http://127.0.0.1:8080/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   635.91us    0.89ms  12.92ms   95.99%
    Req/Sec    56.20k     8.07k   62.00k    86.54%
  Latency Distribution
     50%  250.00us
     75%  491.00us
     90%  700.00us
     99%    5.80ms
  283000 requests in 5.04s, 42.05MB read
Requests/sec:  56140.12
Transfer/sec:      8.34MB
"""


def test_what_wrk_says_is_read() -> None:
    assert wrk_figures(WRK) == {"rps": 56140.12, "mean": pytest.approx(0.63591), "p99": pytest.approx(5.8)}
    assert all(math.isnan(value) for value in wrk_figures("").values())


@pytest.mark.parametrize("text", ["constant:20", "bimodal:5:50:0.2", "pareto:5:3", "none"])
def test_draws_have_the_quantiles_of_their_distribution(text: str) -> None:
    latency, rng = Latency.parse(text), random.Random(1)
    drawn = sorted(latency.draw_ms(rng) for _ in range(20_000))
    for q in (0.3, 0.7, 0.9, 0.97):
        assert drawn[int(q * 20_000)] == pytest.approx(latency.quantile_ms(q), rel=0.05)


def test_the_table_has_a_row_for_all_that_was_measured(project: Path, tmp_path: Path) -> None:
    report = json.loads((project / "bench/results/meshload.json").read_text())
    head, rows = table(report)
    assert len(head) == 3 and all(len(row) == 3 for row in rows)
    assert len(rows) == 4 + len(report["accuracy"])
    draw(report, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000


def test_the_tables_beside_wrk_have_rows_with_and_without_it(project: Path, tmp_path: Path) -> None:
    report = json.loads((project / "bench/results/meshload_wrk.json").read_text())
    wrk, ours = ({row["processes"]: row for row in report["throughput"]["rows"] if row["tool"] == name} for name in
                 ("wrk", "meshload"))  # fmt: skip
    wrk[1]["rps"], ours[1]["rps"] = 200.0, 50.0
    report["agreement"]["rows"][0]["off"] = {"mean": 0.02, "p99": -0.2}
    head, rows = meshload_wrk_plot.throughput_table(report)
    assert all(len(row) == len(head) for row in rows) and len(rows) == 4
    assert next(row for row in rows if row[0] == "meshload -t 1")[5] == "0.25"
    told = meshload_wrk_plot.agreement_table(report)[1]
    assert [row[3:] for row in told[:2]] == [("+2.0%", "yes"), ("-20.0%", "no")]
    meshload_wrk_plot.draw(report, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000
    report["throughput"]["rows"] = [row for row in report["throughput"]["rows"] if row["tool"] != "wrk"]
    for row in report["agreement"]["rows"]:
        del row["wrk"], row["off"]
    assert meshload_wrk_plot.throughput_table(report)[1][-1][0] == "wrk: not installed"
    assert {row[1] for row in meshload_wrk_plot.agreement_table(report)[1]} == {"not installed"}
    meshload_wrk_plot.draw(report, tmp_path / "y.png")


@pytest.mark.parametrize(
    ("cpu", "processes", "server_cpu", "expected"),
    [
        (0.95, 1, 0.5, "generator"),
        (0.95, 2, 0.97, "server"),
        (1.2, 2, 0.7, "the machine's cores"),
        (0.5, 1, 0.5, "other work on the machine"),
    ],
)
def test_what_limits_a_rate_is_told_by_the_cores_it_keeps_busy(
    cpu: float, processes: int, server_cpu: float, expected: str
) -> None:
    assert bottleneck(cpu, processes, server_cpu, 1, 2) == expected


def test_the_no_op_server_answers_each_request_however_it_is_cut() -> None:
    with noop_server(1) as served:
        before_s = served.cpu_s()
        port = int(served.url.rstrip("/").rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as talk, talk.makefile("rb") as answers:
            for piece in (
                b"GET / HT",
                b"TP/1.1\r\nHost: x\r",
                b"\n\r\nGET / HTTP/1.1\r\n\r\nGET /",
                b" HTTP/1.1\r\n\r\n",
            ):
                talk.sendall(piece)
            for _ in range(3):
                head = b"".join(iter(answers.readline, b"\r\n"))
                assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: 128\r\n")
                assert answers.read(128) == b"x" * 128
        assert served.cpu_s() >= before_s


def test_only_what_is_started_meanwhile_goes_ahead_of_others() -> None:
    before = os.sched_getscheduler(0)
    with ahead_of_others(False):
        assert os.sched_getscheduler(0) == before
    try:
        with ahead_of_others(True):
            assert os.sched_getscheduler(0) == os.SCHED_RR
    except PermissionError:
        pytest.skip("needs the right to change the scheduler")
    assert os.sched_getscheduler(0) == before
