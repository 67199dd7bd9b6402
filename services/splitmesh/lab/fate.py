"""Owns when the lab kills and restarts its worker. Pure: time since the run began goes in, an action comes out."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

_CRASHES_FORGIVEN = 3
_RESTART_AFTER_S = 3.0


class Fate(StrEnum):
    """What to do with the worker now."""

    NOTHING = "nothing"
    KILL = "kill"
    RESTART = "restart"


class WorkerFate:
    """Kills at each of `kill_at_s`; whatever ended the worker, it comes back `restart_after_s` later.

    A worker that keeps dying on its own is given up after a few restarts: it would only burn the shared cores.
    """

    def __init__(self, kill_at_s: Sequence[float], *, restart_after_s: float) -> None:
        self._pending = sorted(kill_at_s)
        self._restart_after_s = restart_after_s
        self._down_since_s: float | None = None
        self._held = False
        self.kills: list[float] = []
        """When it was killed on purpose."""
        self.crashes: list[float] = []
        """When it was found to have died on its own."""

    def strike(self, now_s: float) -> None:
        """It is killed now by somebody else's hand, and stays away until `release`."""
        self.kills.append(now_s)
        self._down_since_s = now_s
        self._held = True

    def release(self, now_s: float) -> None:
        """It is started again now. What it should have been killed for meanwhile is over."""
        self._pending = [at for at in self._pending if at > now_s]
        self._down_since_s = None
        self._held = False

    def decide(self, now_s: float, *, running: bool) -> Fate:
        """Called often; each kill and each restart is returned once, as the caller is expected to carry it out."""
        if running:
            return self._decide_up(now_s)
        if self._down_since_s is None:
            self.crashes.append(now_s)
            self._down_since_s = now_s
        if self._held or len(self.crashes) > _CRASHES_FORGIVEN or now_s < self._down_since_s + self._restart_after_s:
            return Fate.NOTHING
        self._down_since_s = None
        return Fate.RESTART

    def _decide_up(self, now_s: float) -> Fate:
        if not self._pending or now_s < self._pending[0]:
            return Fate.NOTHING
        self._pending = [at for at in self._pending if at > now_s]
        self.kills.append(now_s)
        self._down_since_s = now_s
        return Fate.KILL

    @property
    def state(self) -> str:
        """For the display: running, killed, or died."""
        if self._down_since_s is None:
            return "running"
        return "killed" if self.kills and self.kills[-1] == self._down_since_s else "died"


def worker_fate(kill_s: float | None, restart_s: float | None) -> WorkerFate:
    """`restart_s` is a time of the run; without it, or before the kill, the worker is back after three seconds."""
    later = restart_s - kill_s if restart_s is not None and kill_s is not None else 0.0
    return WorkerFate([] if kill_s is None else [kill_s], restart_after_s=later if later > 0 else _RESTART_AFTER_S)
