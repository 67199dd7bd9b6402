"""What the benchmark of meshload reads and shows: wrk's output, servers' distributions, rows of the table."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
from bench.meshload import wrk_figures
from bench.meshload_plot import draw, table
from bench.meshload_servers import Latency

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
    report["http"] |= {"wrk": {}, "agreement": None}
    head, rows = table(report)
    assert len(head) == 3 and all(len(row) == 3 for row in rows)
    assert len(rows) == 6 + 3 and "wrk: not installed" in rows[-1][2]
    report["http"]["wrk"] = {"1": {"rps": 2 * report["http"]["meshload"]["1"]["rps"]}}
    report["http"]["agreement"] = {"mean": {"meshload_ms": 5.1, "wrk_ms": 5.0}}
    told = table(report)[1]
    assert "0.50 of wrk's" in told[-3][2] and "+2.0%" in told[-1][2]
    draw(report, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000
