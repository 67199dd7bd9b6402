"""Owns how soon a policy is back after a shift, and what the shift cost it.

*Back*: the first window of `WINDOW` frames, captured after the shift's end, over which the policy's mean utility is
no more than `TOLERANCE` below what the very same policy had on those same frames in the run of that seed without a
shift; or below what the horizon oracle has on them in the run with it, where that is less, as the oracle too has a
backlog to work off. The frames before that window are those that it took to recover: 0 where it was never away.

*Regret*: the oracle's utility less the policy's, summed over the frames from the shift's beginning until
`REGRET_FRAMES` after its end, window by window, a window in which the policy has more counting as 0. In frames: a
regret of 10 is worth ten frames answered fully. The oracle meets a kinder world (see `sim.oracle`), so that some of
it is there without a shift too; *lost* is what the policy itself had more without the shift, over the same frames,
cut off nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from splitmesh.errors import SettingsError
from splitmesh.provision.link.trace import LinkTrace
from splitmesh.sim.compare import BEST_ORACLE, Wanted
from splitmesh.sim.errand import Case, run, start_s
from splitmesh.sim.plan import SimPlan
from splitmesh.sim.scenario import Scenario
from splitmesh.sim.shift import KINDS, Shift, shifted
from splitmesh.sim.spread import Spread, in_turn, shares, weight

WINDOW: Final = 10
TOLERANCE: Final = 0.03
REGRET_FRAMES: Final = 100
UNDISTURBED: Final = ""
"""In place of a kind of shift: there is none."""
Utilities = Sequence[float]
"""Per captured frame."""


class Disturbed(NamedTuple):
    """A run of `policy` with a shift of that kind, or undisturbed."""

    kind: str
    case: Case
    policy: str
    seed: int


@dataclass(frozen=True, slots=True)
class Recovered:
    """What came of one shift."""

    frames: int | None
    """Until the policy was back; None: not before the run's end."""
    strict: int | None
    """The same with nothing granted for what the oracle has."""
    regret: float
    """Frames."""
    lost: float
    """Frames."""


@dataclass(frozen=True, slots=True)
class RecoveryComparison:
    wanted: Wanted
    shift: Shift
    utilities: Mapping[Disturbed, Utilities]

    @property
    def first_after(self) -> int:
        """The first frame captured at the shift's end or later."""
        return _frame_at(self.shift.end_s, self.wanted.scenario)

    def recovered(self, kind: str, case: Case, policy: str, seed: int) -> Recovered:
        own, calm, oracle = (
            self.utilities[Disturbed(*each, seed)]
            for each in ((kind, case, policy), (UNDISTURBED, case, policy), (kind, case, BEST_ORACLE))
        )
        begin, end = _frame_at(self.shift.start_s, self.wanted.scenario), self.first_after
        counted = slice(begin, end + REGRET_FRAMES)
        return Recovered(
            frames_to_recover(own, calm, oracle, end=end),
            frames_to_recover(own, calm, calm, end=end),
            regret(oracle[counted], own[counted]),
            float(np.sum(np.subtract(calm[counted], own[counted]))),
        )


@dataclass(frozen=True, slots=True)
class _Ingredients:
    """Called with what is to be run: its utilities. Can be pickled."""

    plans: Mapping[str, SimPlan]
    traces: Mapping[str, LinkTrace]
    scenario: Scenario
    seeds: int
    shift: Shift

    def __call__(self, asked: Disturbed) -> Utilities:
        trace = self.traces[asked.case.trace]
        scenario = replace(
            self.scenario,
            edge_slowdown=asked.case.edge_slowdown,
            trace_start_s=start_s(trace, asked.seed, self.seeds),
        )
        trace, scenario = shifted(asked.kind, self.shift, trace, scenario)
        return run(self.plans[asked.policy], asked.policy, trace, scenario, seed=asked.seed).utilities


def recover(
    wanted: Wanted,
    *,
    shift: Shift,
    progress: Callable[[float], None] = lambda _share: None,
    spread: Spread = in_turn,
) -> RecoveryComparison:
    """Run every policy of `wanted` without a shift and with each kind of it, and the oracle with each.

    Raises SettingsError where nothing is asked for, and where the run ends too soon after the shift.
    """
    if not wanted.policies or not wanted.traces or wanted.seeds < 1:
        raise SettingsError("a recovery needs a policy, a trace and a seed", key="policies")
    least_s = shift.end_s + (REGRET_FRAMES + WINDOW) / wanted.scenario.fps
    if wanted.scenario.duration_s < least_s:
        raise SettingsError(f"a run with such a shift must last {least_s:g} s or longer", key="duration_s")
    asked = [
        Disturbed(kind, case, policy, seed)
        for case in wanted.cases.values()
        for kind in (UNDISTURBED, *KINDS)
        for policy in (*wanted.policies, *((BEST_ORACLE,) if kind else ()))
        for seed in range(wanted.seeds)
    ]
    asked.sort(key=lambda each: -weight(each.policy))
    plans = {policy: wanted.plan_of(policy) for policy in (*wanted.policies, BEST_ORACLE)}
    ingredients = _Ingredients(plans, wanted.traces, wanted.scenario, wanted.seeds, shift)
    tell = shares((each.policy for each in asked), progress)
    done = spread(ingredients, asked, lambda each: tell(each.policy))
    return RecoveryComparison(wanted, shift, dict(zip(asked, done, strict=True)))


def frames_to_recover(own: Utilities, calm: Utilities, oracle: Utilities, *, end: int) -> int | None:
    """own, oracle: with the shift; calm: the same policy without it; end: the first frame after it."""
    asked = np.minimum(window_means(calm[end:]), window_means(oracle[end:])) - TOLERANCE
    back = np.flatnonzero(window_means(own[end:]) >= asked - 1e-12)
    return int(back[0]) if len(back) else None


def regret(oracle: Utilities, own: Utilities) -> float:
    """Frames; windows begin at the first entry, the last may be shorter."""
    ahead = np.subtract(oracle, own)
    return float(sum(max(0.0, ahead[i : i + WINDOW].sum()) for i in range(0, len(ahead), WINDOW)))


def window_means(values: Utilities) -> npt.NDArray[np.float64]:
    """Mean over each `WINDOW` entries in a row: entry k is of those from k on."""
    return np.convolve(values, np.full(WINDOW, 1 / WINDOW), mode="valid")


def _frame_at(at_s: float, scenario: Scenario) -> int:
    """The first frame that is captured then or later."""
    return -int(-at_s * 1e9 // scenario.period_ns)
