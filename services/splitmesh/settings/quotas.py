"""Owns how people write tenants and their quotas ("gates,yard:rate=50,share=0.5") and how they are read. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from splitmesh.schedule.tenants import Tenant
from splitmesh.settings.units import parse_bytes

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FIELDS = {
    "weight": "weight",
    "rate": "rate_rps",
    "burst": "burst",
    "bytes": "bytes_per_s",
    "concurrency": "concurrency",
    "share": "share",
}
_RULE = (
    'must be names with commas, quotas behind a colon, as in "gates,yard:rate=50,share=0.5"; '
    f"quotas are {', '.join(_FIELDS)}"
)


def parse_tenants(value: object) -> tuple[Tenant, ...]:
    """Tenants from "gates,yard:rate=50,share=0.5", from a list of such texts, or from a table by name, as in TOML:
    `[cloud.tenants.yard]` with `rate = 50`. Raises ValueError.

    weight: of its share while several want service. rate, burst: requests per second, and how many at once. bytes: of
    payloads per second. concurrency: requests at a time. share: of the worker's compute, (0, 1].
    """
    made = tuple(_tenants(value))
    if len({each.name for each in made}) != len(made):
        raise ValueError("names a tenant twice")
    return made


def _tenants(value: object) -> Iterable[Tenant]:
    if isinstance(value, Tenant):
        return [value]
    if isinstance(value, Mapping):
        return [_tenant(name, quotas) for name, quotas in value.items()]
    if isinstance(value, (list, tuple)):
        return [tenant for item in value for tenant in _tenants(item)]
    if not isinstance(value, str):
        raise ValueError(_RULE)
    found: list[tuple[str, dict[str, str]]] = []
    for part in filter(None, (part.strip() for part in value.split(","))):
        name, colon, first = part.partition(":")
        if colon or "=" not in part:
            found.append((name.strip(), {}))
        quota, equals, amount = (first if colon else part).partition("=")
        if colon or equals:
            if not (found and equals):
                raise ValueError(_RULE)
            found[-1][1][quota.strip()] = amount.strip()
    return [_tenant(name, quotas) for name, quotas in found]


def _tenant(name: object, quotas: object) -> Tenant:
    if not (isinstance(name, str) and _NAME.fullmatch(name) and isinstance(quotas, Mapping)):
        raise ValueError(_RULE)
    if unknown := [str(quota) for quota in quotas if quota not in _FIELDS]:
        raise ValueError(f"has no quota {unknown[0]}; quotas are {', '.join(_FIELDS)}")
    return Tenant(name, **{_FIELDS[quota]: _amount(quota, amount) for quota, amount in quotas.items()})


def _amount(quota: str, amount: Any) -> float:
    if quota == "bytes":
        return parse_bytes(amount)
    try:
        return float(amount)
    except (TypeError, ValueError):
        raise ValueError(f"{quota} must be a number, not {amount!r}") from None
