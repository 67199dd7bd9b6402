"""Owns what a tenant may ask of a worker: its quotas, as token buckets over given times. Queues nothing.

Fairness between tenants within their quotas is the queue's part (`schedule/fair.py`); here is what nobody may exceed
even while others ask for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

_SECOND_NS = 1_000_000_000
_HELD_WEIGHT = 0.1


@dataclass(frozen=True, slots=True)
class Tenant:
    """What one tenant is promised and allowed. Infinity: no limit. Raises ValueError for what no tenant can be.

    weight: of its share while several want service, positive. rate_rps, burst: requests per second, and how many may
    come at once. bytes_per_s: of payloads; a second's worth may come at once. concurrency: requests taken and not yet
    ended, waiting ones too. share: of all compute of the worker, (0, 1]; a second's worth may be asked for at once.
    """

    name: str
    weight: float = 1.0
    rate_rps: float = math.inf
    burst: float = 16.0
    bytes_per_s: float = math.inf
    concurrency: float = math.inf
    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise ValueError(f"tenant {self.name}: weight {self.weight} is not positive and finite")
        if not (self.rate_rps > 0 and self.bytes_per_s > 0):
            raise ValueError(f"tenant {self.name}: rate_rps and bytes_per_s must be positive")
        if not (self.burst >= 1 and self.concurrency >= 1):
            raise ValueError(f"tenant {self.name}: burst and concurrency must be at least 1")
        if not 0 < self.share <= 1:
            raise ValueError(f"tenant {self.name}: share {self.share} is not in (0, 1]")

    def __str__(self) -> str:
        """As settings have it: `yard:rate=50,share=0.5`."""
        quotas = {
            "weight": self.weight,
            "rate": self.rate_rps,
            "burst": self.burst,
            "bytes": self.bytes_per_s,
            "concurrency": self.concurrency,
            "share": self.share,
        }
        told = [f"{name}={amount:.12g}" for name, amount in quotas.items() if amount != _UNSAID[name]]
        return f"{self.name}:{','.join(told)}" if told else self.name


_UNSAID = {
    "weight": 1.0, "rate": math.inf, "burst": 16.0, "bytes": math.inf, "concurrency": math.inf, "share": 1.0
}  # fmt: skip


class Quota(StrEnum):
    RATE = "rate"
    BYTES = "bytes"
    CONCURRENCY = "concurrency"
    SHARE = "share"


@dataclass(frozen=True, slots=True)
class OverQuota:
    """quota: the one that would be exceeded; if several, the one that takes longest to be met.

    retry_after_ns: when it could be met if nothing else of the tenant is taken; 0: never, the request is too large.
    """

    quota: Quota
    retry_after_ns: int


@dataclass(frozen=True, slots=True)
class Ticket:
    """What one taken request was charged; given back by `Quotas.ended` or `Quotas.refund`."""

    tenant: str
    payload_bytes: int
    cost_ns: int
    taken_ns: int


class TokenBucket:
    """Fills at `per_s`, holds at most `most`, begins full. Either may be infinite.

    The leaky-bucket rule in its virtual-scheduling form: GCRA, ITU-T I.371, with amounts in place of cells.
    """

    def __init__(self, per_s: float, most: float) -> None:
        self._per_s = per_s
        self._most = most
        self._held = most
        self._seen_ns: int | None = None

    def missing_ns(self, amount: float, now_ns: int) -> float:
        """How long until `amount` is there; 0: now; infinite: never, it is more than the bucket holds."""
        if amount > self._most:
            return math.inf
        self._fill(now_ns)
        lacking = amount - self._held
        return 0.0 if lacking <= 0 else max(1.0, lacking * _SECOND_NS / self._per_s)

    def take(self, amount: float) -> None:
        """Negative amounts give back, up to what the bucket holds."""
        self._held = min(self._most, self._held - amount)

    def _fill(self, now_ns: int) -> None:
        if self._seen_ns is not None and now_ns > self._seen_ns:
            self._held = min(self._most, self._held + (now_ns - self._seen_ns) * self._per_s / _SECOND_NS)
        self._seen_ns = now_ns if self._seen_ns is None else max(now_ns, self._seen_ns)


class _Account:
    def __init__(self, tenant: Tenant, servers: int) -> None:
        self.tenant = tenant
        self.requests = TokenBucket(tenant.rate_rps, tenant.burst if tenant.rate_rps < math.inf else math.inf)
        self.bytes = TokenBucket(tenant.bytes_per_s, tenant.bytes_per_s)
        compute = tenant.share * servers * _SECOND_NS if tenant.share < 1 else math.inf
        self.compute_ns = TokenBucket(compute, compute)
        self.unlimited = tenant.share == 1 and math.inf == min(
            tenant.rate_rps, tenant.bytes_per_s, tenant.concurrency
        )
        self.open = 0
        self.held_ns = 0.0

    @property
    def room_in_ns(self) -> float:
        """When one of its open requests should end: they take `held_ns` each, and are spread over it."""
        return max(1.0, self.held_ns / max(1, self.open))

    def missing_ns(self, payload_bytes: int, cost_ns: int, now_ns: int) -> dict[Quota, float]:
        """By quota: how long until it has room for such a request; infinite: never."""
        return {
            Quota.RATE: self.requests.missing_ns(1, now_ns),
            Quota.BYTES: self.bytes.missing_ns(payload_bytes, now_ns),
            Quota.SHARE: self.compute_ns.missing_ns(cost_ns, now_ns),
            Quota.CONCURRENCY: self.room_in_ns if self.open >= self.tenant.concurrency else 0.0,
        }

    def charge(self, payload_bytes: int, cost_ns: int, sign: int) -> None:
        self.requests.take(sign)
        self.bytes.take(sign * payload_bytes)
        self.compute_ns.take(sign * cost_ns)
        self.open += sign


class Quotas:
    """The accounts of a worker's tenants; every time is monotonic nanoseconds.

    take → (queue) → ended; or take → refund where the queue would not have it. A tenant that is not among `tenants`
    has the quotas of `default`, an account of its own, and is forgotten once `most_accounts` are held and it has
    nothing open.
    """

    def __init__(
        self,
        tenants: Iterable[Tenant] = (),
        *,
        servers: int = 1,
        default: Tenant | None = None,
        most_accounts: int = 1024,
    ) -> None:
        self._servers = servers
        self._default = default or Tenant("default")
        self._most_accounts = most_accounts
        self._known = {tenant.name: _Account(tenant, servers) for tenant in tenants}
        self._others: dict[str, _Account] = {}

    def tenant(self, name: str) -> Tenant:
        known = self._known.get(name)
        return known.tenant if known else replace(self._default, name=name)

    def open(self, name: str) -> int:
        """How many of its requests were taken and have not ended."""
        account = self._known.get(name) or self._others.get(name)
        return account.open if account else 0

    def take(self, name: str, *, payload_bytes: int, cost_ns: int, now_ns: int) -> Ticket | OverQuota:
        """Charge a request to its tenant, or say why not; what is refused is charged nothing.

        cost_ns: predicted service time.
        """
        account = self._account(name)
        if account.unlimited:
            account.open += 1
            return Ticket(name, payload_bytes, cost_ns, now_ns)
        missing = account.missing_ns(payload_bytes, cost_ns, now_ns)
        quota = max(missing, key=lambda each: missing[each])
        if missing[quota] > 0:
            return OverQuota(quota, 0 if missing[quota] == math.inf else math.ceil(missing[quota]))
        account.charge(payload_bytes, cost_ns, 1)
        return Ticket(name, payload_bytes, cost_ns, now_ns)

    def wait_ns(self, name: str, now_ns: int) -> int:
        """How long until the tenant may ask again, if only for something small and short; 0: now."""
        account = self._account(name)
        return 0 if account.unlimited else math.ceil(max(account.missing_ns(0, 0, now_ns).values()))

    def ended(self, ticket: Ticket, now_ns: int, *, service_ns: int | None = None) -> None:
        """The request was answered, dropped or cancelled. service_ns: what it truly took, charged in place of the
        prediction; 0 if it never ran.
        """
        account = self._account(ticket.tenant)
        account.open -= 1
        held = max(0, now_ns - ticket.taken_ns)
        account.held_ns += (_HELD_WEIGHT if account.held_ns else 1.0) * (held - account.held_ns)
        if service_ns is not None:
            account.compute_ns.take(service_ns - ticket.cost_ns)

    def refund(self, ticket: Ticket) -> None:
        """The request was not taken after all: as if it had never been asked for."""
        self._account(ticket.tenant).charge(ticket.payload_bytes, ticket.cost_ns, -1)

    def _account(self, name: str) -> _Account:
        account = self._known.get(name) or self._others.get(name)
        if account is None:
            if len(self._others) >= self._most_accounts:
                self._others = {known: each for known, each in self._others.items() if each.open}
            account = self._others[name] = _Account(replace(self._default, name=name), self._servers)
        return account
