"""Every fault once, one after the other, into one mesh of real processes; `make chaos` strikes twenty times each.

The mesh is struck once for all tests here; each test looks at what one fault did.
"""

from __future__ import annotations

import pytest
from bench.chaos.faults import FAULTS
from bench.chaos.repeat import Campaign, Repetition, run_campaign

from splitmesh.frames.outcome import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

HERE = {Outcome.LOCAL, Outcome.RESUMED, Outcome.TRACKED}
AWAY = ("kill", "stop", "broker", "partition")
"""Faults that leave the edge on its own for a while."""
HARMLESS = ("clock", "worker-disk", "rolling")
"""Faults that should cost no frame its answer from a worker, or hardly one."""


@pytest.fixture(scope="module")
def struck(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    folder = tmp_path_factory.mktemp("chaos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPLITMESH_CACHE_DIR", str(folder / "cache"))
        return run_campaign(folder / "run", list(FAULTS), 1, short=True, progress=lambda _: None)


def strike(struck: Campaign, name: str) -> Repetition:
    if name in struck.skipped:
        pytest.skip(struck.skipped[name])
    found = [made for made in struck.repetitions if made.fault == name]
    assert found, struck.faults
    return found[0]


@pytest.mark.parametrize("name", FAULTS)
def test_no_frame_is_unaccounted_for_and_the_cloud_is_used_again(struck: Campaign, name: str) -> None:
    made = strike(struck, name)
    assert made.faults == []
    assert made.recovery_s is not None
    assert made.failed == 0, made.outcomes
    assert sum(made.outcomes.values()) == made.frames > 0


def test_the_drained_edge_counts_what_it_wrote(struck: Campaign) -> None:
    """Also: no process failed, no log tells of an exception that nobody handled, and the wall clock did jump."""
    assert struck.faults == []
    counts = dict(struck.counts)
    assert counts.pop("captured") == sum(counts.values()) > 100


@pytest.mark.parametrize("name", AWAY)
def test_an_edge_on_its_own_answers_by_itself(struck: Campaign, name: str) -> None:
    """A fault that nobody noticed was none: then this test would show nothing."""
    made = strike(struck, name)
    assert sum(made.outcomes.get(outcome.value, 0) for outcome in HERE) >= 3, made.outcomes


def test_lies_cost_the_worker_its_answer_and_are_not_believed(struck: Campaign) -> None:
    made = strike(struck, "garbage")
    assert made.notes["lied_to"] >= 1, made.outcomes


@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_not_touch_the_way_to_the_cloud_does_not_stop_its_use(struck: Campaign, name: str) -> None:
    made = strike(struck, name)
    assert made.outcomes.get(Outcome.SPLIT.value, 0) >= made.frames / 2, made.outcomes


def test_a_full_disk_under_the_results_costs_lines_and_no_frames(struck: Campaign) -> None:
    made = strike(struck, "edge-disk")
    assert made.lost_lines >= 5
