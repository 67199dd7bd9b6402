"""Owns the rival after ANS (Zhang et al., "Autodidactic Neurosurgeon", WWW 2021): a contextual bandit over the cuts.

There, only the time on the device is profiled; what a cut costs beyond it, link and cloud, is linear in its features
and learnt from delays alone, by LinUCB (Li et al. 2010). Two additions make µLinUCB: as a run on the device teaches
nothing, every ⌈T^µ⌉-th frame of a phase of T frames must be sent (phases double, since nobody knows the length of a
run), and key frames, of more weight to the user, explore less. The discounted variant forgets by D-LinUCB (Russac,
Vernade and Cappé, NeurIPS 2019, "Weighted Linear Bandits for Non-Stationary Environments").

Units: delays in 0.1 s, so that α and λ act on numbers near 1. Features: 1, then bytes and worker time as shares of
the largest on the menu, in [0, 1] but for streams that must begin anew. A run on the device has (0, 0, 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splitmesh.policy.baselines import LocalOnly
from splitmesh.policy.decision import Decision, Observation
from splitmesh.policy.point import OperatingPoint
from splitmesh.policy.rivals.menu import Menu, best_codecs, mean_bytes
from splitmesh.policy.rivals.net import netted
from splitmesh.policy.rivals.stages import device_wait_ms
from splitmesh.policy.world import World

_UNIT_MS = 100.0
_FEATURES = 3
_FIRST_PHASE_FRAMES = 64
_KEY_WEIGHT, _ORDINARY_WEIGHT = 0.8, 0.2
"""`L`: how little a frame explores."""
_KEY_MOTION = 1.5
"""Times the usual motion, and a frame is a key frame; the paper compares pictures (SSIM)."""
_CENSORED = 1.25
"""A frame that no model answered is entered as having taken this many times the time waited."""
_MOST_OPEN = 512


@dataclass(frozen=True, slots=True)
class _Open:
    """A decision whose frame is not settled yet, kept so that its identity stays its own."""

    decision: Decision
    features: npt.NDArray[np.float64]
    known_ms: float


class Ans:
    """discount: 1 for µLinUCB, below 1 for D-LinUCB, by settled frame. alpha: weight of the confidence width, in
    units of 0.1 s. ridge: λ. mu: µ in (0, 0.5). drop: as in `Menu`, for it is accuracy-blind."""

    def __init__(
        self,
        *,
        discount: float = 1.0,
        alpha: float = 0.3,
        ridge: float = 0.1,
        mu: float = 0.25,
        drop: float = 0.1,
    ) -> None:
        self.name = "ans" if discount == 1 else "ans-discounted"
        self._menu = Menu(drop=drop)
        self._alpha = alpha
        self._mu = mu
        self._model = DiscountedRidge(_FEATURES, ridge=ridge, discount=discount)
        self._frames = 0
        self._usual_motion: float | None = None
        self._open: dict[int, _Open] = {}

    def decide(self, *, world: World, seen: Observation) -> Decision:
        weight = self._weight(seen)
        arms = best_codecs(self._menu.on_offer(world, seen), world)
        if not any(arm.remote for arm in arms):
            return LocalOnly().decide(world=world, seen=seen)
        forced = self._is_forced()
        largest = _largest(self._menu.kept(world))
        rows: list[tuple[float, str, OperatingPoint, npt.NDArray[np.float64], float]] = []
        for arm in arms:
            if arm.remote or not forced:
                x, known_ms = features(arm, world, largest), _known_ms(arm, world, seen)
                width = self._alpha * math.sqrt(1 - weight) * self._model.width(x)
                rows.append((known_ms + _UNIT_MS * (self._model.predict(x) - width), arm.name, arm, x, known_ms))
        rows.sort(key=lambda row: row[:2])
        index_ms, _, best, x, known_ms = rows[0]
        self._menu.chose(best, world, seen)
        reason = f"{'sent to learn, ' if forced else ''}optimistic delay {index_ms:.0f} ms"
        decision = netted(best, reason, world=world, seen=seen, others=[row[2] for row in rows])
        if decision.point is best:
            self._remember(_Open(decision, x, known_ms))
        return decision

    def settled(self, decision: Decision, *, latency_ms: float, answered: bool, now_ns: int) -> None:
        """Learns what the frame took beyond what was known of the device when it was decided."""
        entry = self._open.pop(id(decision), None)
        if entry is not None:
            beyond_ms = latency_ms * (1.0 if answered else _CENSORED) - entry.known_ms
            self._model.observe(entry.features, max(0.0, beyond_ms) / _UNIT_MS)

    def _remember(self, entry: _Open) -> None:
        if len(self._open) >= _MOST_OPEN:
            self._open.pop(next(iter(self._open)))
        self._open[id(entry.decision)] = entry

    def _is_forced(self) -> bool:
        self._frames += 1
        phase = int(math.log2(self._frames / _FIRST_PHASE_FRAMES + 1))
        period = math.ceil(math.pow(_FIRST_PHASE_FRAMES << phase, self._mu))
        return self._frames % period == 0

    def _weight(self, seen: Observation) -> float:
        if self._usual_motion is None:
            self._usual_motion = seen.motion
        key = seen.motion > _KEY_MOTION * self._usual_motion
        self._usual_motion += 0.05 * (seen.motion - self._usual_motion)
        return _KEY_WEIGHT if key else _ORDINARY_WEIGHT


class DiscountedRidge:
    """Linear regression whose old observations fade: `V = Σ γ^(t−s)·x·xᵀ + λI`, and `Ṽ` the same with γ²."""

    def __init__(self, dimensions: int, *, ridge: float, discount: float) -> None:
        if not 0 < discount <= 1 or ridge <= 0:
            raise ValueError(f"discount must lie in (0, 1] and ridge above 0, not {discount} and {ridge}")
        self._ridge = ridge * np.eye(dimensions)
        self._discount = discount
        self._v = self._ridge.copy()
        self._v2 = self._ridge.copy()
        self._b = np.zeros(dimensions)
        self._inverse = np.linalg.inv(self._v)

    def observe(self, x: npt.NDArray[np.float64], y: float) -> None:
        """x: (dimensions,) float64. A vector of zeros teaches nothing, but time passes."""
        gamma = self._discount
        self._v = gamma * self._v + np.outer(x, x) + (1 - gamma) * self._ridge
        self._v2 = gamma**2 * self._v2 + np.outer(x, x) + (1 - gamma**2) * self._ridge
        self._b = gamma * self._b + y * x
        self._inverse = np.linalg.inv(self._v)

    def predict(self, x: npt.NDArray[np.float64]) -> float:
        """`xᵀθ`, below 0 taken for 0: no delay is."""
        return max(0.0, float(x @ self._inverse @ self._b))

    def width(self, x: npt.NDArray[np.float64]) -> float:
        """`√(xᵀ V⁻¹ Ṽ V⁻¹ x)`; without a discount that is LinUCB's `√(xᵀ V⁻¹ x)`."""
        half = self._inverse @ x
        return math.sqrt(max(0.0, float(half @ self._v2 @ half)))


def features(point: OperatingPoint, world: World, largest: tuple[float, float]) -> npt.NDArray[np.float64]:
    """(3,) float64: 1, bytes and worker time as shares of `largest`; zeros for a run on the device."""
    if not point.remote:
        return np.zeros(_FEATURES)
    return np.array([1.0, mean_bytes(point, world) / largest[0], (point.cloud_ms + point.decode_ms) / largest[1]])


def _largest(points: list[OperatingPoint]) -> tuple[float, float]:
    """(bytes, ms on the worker) of the remote ones; 1 where all are 0."""
    remote = [point for point in points if point.remote]
    size = max((point.payload_bytes for point in remote), default=0.0)
    cloud_ms = max((point.cloud_ms + point.decode_ms for point in remote), default=0.0)
    return size or 1.0, cloud_ms or 1.0


def _known_ms(point: OperatingPoint, world: World, seen: Observation) -> float:
    encode_ms = world.encode_ms(point) if point.remote else 0.0
    return device_wait_ms(point, seen) + world.edge_ms(point.edge_ms) + encode_ms
