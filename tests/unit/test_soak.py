"""The soak's judgement: what counts as growth, and what as noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench.soak import total
from bench.soak_report import conclude, growth, table, trends_of
from bench.soak_trend import MIB, grows, steady, trend

EVERY_S = 5.0


def line(
    count: int, start: float, per_min: float, noise: float = 0.0, alike: float = 0.0
) -> list[tuple[float, float]]:
    """Samples every 5 s along a line; noise of that standard deviation, neighbours alike by a factor."""
    rng = np.random.default_rng(7)
    shift, samples = 0.0, []
    for index in range(count):
        shift = alike * shift + (1 - alike**2) ** 0.5 * noise * float(rng.standard_normal())
        samples.append((index * EVERY_S, start + per_min * index * EVERY_S / 60 + shift))
    return samples


def test_an_exact_line_is_found_exactly() -> None:
    found = trend(line(100, 50.0, 3.0))
    assert found is not None
    assert found.slope == pytest.approx(3.0) and found.high - found.low < 1e-6
    assert found.minutes == pytest.approx(99 * EVERY_S / 60) and found.samples == 100


def test_the_interval_is_that_of_least_squares_where_samples_are_independent() -> None:
    from scipy import stats

    samples = line(400, 0.0, 1.0, noise=2.0)
    found = trend(samples)
    reference = stats.linregress([t / 60 for t, _ in samples], [v for _, v in samples])
    assert found is not None and found.slope == pytest.approx(reference.slope)
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, 398) * reference.stderr, rel=0.15)


def test_samples_that_are_alike_are_worth_less() -> None:
    apart, alike = (trend(line(400, 0.0, 0.0, noise=1.0, alike=each)) for each in (0.0, 0.9))
    assert apart is not None and alike is not None
    assert alike.high - alike.low > 2 * (apart.high - apart.low)


def test_too_few_samples_say_nothing() -> None:
    assert trend(line(11, 0.0, 1.0)) is None


def test_warm_up_is_left_out() -> None:
    samples = line(121, 0.0, 0.0)
    assert steady(samples)[0][0] == 60
    assert steady(samples[:13])[0][0] == 15
    assert steady([]) == []


@pytest.mark.parametrize(
    ("what", "samples", "leaks"),
    [
        ("rss_bytes", line(120, 100 * MIB, 0.0, noise=MIB), False),
        ("rss_bytes", line(120, 100 * MIB, 0.5 * MIB, noise=0.1 * MIB), False),
        ("rss_bytes", line(120, 100 * MIB, 3 * MIB, noise=MIB), True),
        ("rss_bytes", line(24, 100 * MIB, 2 * MIB, noise=20 * MIB), False),
        ("fds", line(120, 30, 0.0, noise=1.0), False),
        ("fds", line(120, 30, 1.0, noise=0.5), True),
        ("tasks", line(120, 20, 0.1), False),
        ("threads", line(120, 12, 0.5), True),
    ],
    ids=["flat", "below the bound", "leak", "all noise", "readers", "descriptors", "one in ten minutes", "threads"],
)
def test_growth_beyond_bound_and_chance_is_a_leak(what: str, samples: list[tuple[float, float]], leaks: bool) -> None:
    found = trend(samples)
    assert found is not None and grows(what, found) is leaks


def series(per_min_mib: float) -> dict[str, list[dict[str, float]]]:
    rows = [
        {"at_s": at_s, "rss_bytes": value * MIB, "threads": 9.0, "fds": 20.0, "tasks": 12.0}
        for at_s, value in line(100, 80.0, per_min_mib)
    ]
    return {
        "broker": [{k: v for k, v in row.items() if k != "tasks"} for row in rows],
        "edge-1": rows,
        "worker-1": rows,
    }


def test_a_leak_fails_the_soak_and_names_the_process(tmp_path: Path) -> None:
    fine = conclude({}, series(0.0), [], tmp_path)
    assert fine["faults"] == [] and (tmp_path / "soak.png").exists()
    head, rows = table(fine)
    assert len(rows) == 3 and all(len(row) == len(head) for row in rows)
    leaking = growth(trends_of(series(4.0)))
    assert len(leaking) == 3 and "resident memory of edge-1 grow by 4.00 a minute" in leaking


def test_a_soak_that_saw_no_worker_fails(tmp_path: Path) -> None:
    unseen = {name: rows for name, rows in series(0.0).items() if name != "worker-1"}
    assert conclude({}, unseen, ["a frame is lost"], tmp_path)["faults"] == [
        "a frame is lost",
        "too few samples to judge any worker",
    ]


def test_sums_over_labels() -> None:
    page = 'x_sum{model="a",cut="b"} 1.5\nx_sum{model="a",cut="c"} 2.0\nx_sum_other 9\ny_sum 4.0\n'
    assert total(page, "x_sum") == 3.5
    assert total(page, "y_sum") == 4.0
