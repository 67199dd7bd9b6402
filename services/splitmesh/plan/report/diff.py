"""Owns what two plans have in common and what not. Says nothing of which is better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.bundle.schema import ProfileFile
from splitmesh.plan.report.document import document

POINT_FACTS = ("bytes_mean", "bytes_p95", "fidelity", "edge_ms", "encode_ms", "decode_ms", "cloud_ms")
_CUT_FACTS = ("tensors", "elements", "parity_max_rel", "batchable", "deterministic")
_CUT_TIMES = ("edge_ms", "cloud_ms")


@dataclass(frozen=True, slots=True)
class Change:
    """One fact that differs. None: that plan has none."""

    what: str
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class Pair:
    """One cut or operating point of either plan; None where the other has it alone."""

    name: str
    a: Mapping[str, Any] | None
    b: Mapping[str, Any] | None

    @property
    def state(self) -> str:
        """ "added" (only in the second), "removed", "changed" or "same"."""
        if self.a is None:
            return "added"
        if self.b is None:
            return "removed"
        return "same" if self.a == self.b else "changed"


@dataclass(frozen=True, slots=True)
class Difference:
    """Two plans, fact by fact. Operating points are those of the profiles that both have selected."""

    same_plan: bool
    """Equal but for what devices measured."""
    same: bool
    """Equal in everything, the times too."""
    facts: tuple[Change, ...]
    """Model, manifest, frames, tools and the like: only what differs."""
    cuts: tuple[Pair, ...]
    points: tuple[Pair, ...]
    profiles: tuple[Change, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "same": self.same,
            "same_plan": self.same_plan,
            "facts": [asdict(change) for change in self.facts],
            "cuts": [_pair_json(pair) for pair in self.cuts],
            "operating_points": [_pair_json(pair) for pair in self.points],
            "profiles": [asdict(change) for change in self.profiles],
        }


def compare(a: Bundle, b: Bundle) -> Difference:
    """Fact by fact, with a device class that both have selected in both, if there is one."""
    shared = sorted(a.profiles.keys() & b.profiles.keys())
    if shared:
        a, b = a.select(device_class=shared[0]), b.select(device_class=shared[0])
    one, other = document(a), document(b)
    same_plan = a.plan == b.plan and a.manifest == b.manifest
    profiles = tuple(_profiles(a, b))
    return Difference(
        same_plan=same_plan,
        same=same_plan and not profiles,
        facts=tuple(_facts(a, b)),
        cuts=_pairs(one["cuts"], other["cuts"], (*_CUT_FACTS, *_CUT_TIMES)),
        points=_pairs(one["operating_points"], other["operating_points"], POINT_FACTS),
        profiles=profiles,
    )


def _facts(a: Bundle, b: Bundle) -> Iterator[Change]:
    one, other = _facts_of(a), _facts_of(b)
    for name in dict.fromkeys([*one, *other]):
        if one.get(name) != other.get(name):
            yield Change(name, one.get(name), other.get(name))
    if a.plan.strip != b.plan.strip:
        yield Change("strip", *(f"{len(bundle.plan.strip.ops)} nodes" for bundle in (a, b)))
    if a.plan.rows != b.plan.rows:
        rows = [{row.point: row for row in bundle.plan.rows} for bundle in (a, b)]
        differ = sum(rows[0].get(name) != rows[1].get(name) for name in rows[0].keys() | rows[1].keys())
        yield Change("rows measured", f"{len(a.plan.rows)} rows", f"{len(b.plan.rows)} rows, {differ} differ")


def _facts_of(bundle: Bundle) -> dict[str, Any]:
    """Every fact of a plan by a name for people, but cuts, rows and the strip."""
    plan = bundle.plan
    told = ("calibrated", "nodes", "frontiers", "batchable", "deterministic", "track_kappa", "track_samples", "notes")
    return {
        **plan.key.model_dump(mode="json", exclude={"manifest_sha256"}),
        **{f"manifest.{name}": value for name, value in bundle.manifest.model_dump(mode="json").items()},
        **{f"frames.{name}": count for name, count in plan.frames.model_dump().items()},
        **{f"tools.{name}": version for name, version in plan.tools.items()},
        **{name: getattr(plan, name) for name in told},
        **{f"rejected.{cut.name}": cut.reason for cut in plan.rejected},
        **{f"file {name}": f"sha256 {digest[:12]}…" for name, digest in plan.files.items()},
    }


def _pairs(a: list[dict[str, Any]], b: list[dict[str, Any]], facts: tuple[str, ...]) -> tuple[Pair, ...]:
    one, other = ({entry["id"]: {fact: entry[fact] for fact in facts} for entry in entries} for entries in (a, b))
    return tuple(Pair(name, one.get(name), other.get(name)) for name in dict.fromkeys([*one, *other]))


def _pair_json(pair: Pair) -> dict[str, Any]:
    return {"id": pair.name, "state": pair.state, "a": pair.a, "b": pair.b}


def _profiles(a: Bundle, b: Bundle) -> Iterator[Change]:
    for name in sorted(a.profiles.keys() | b.profiles.keys()):
        one, other = a.profiles.get(name), b.profiles.get(name)
        if _told(one) != _told(other):
            yield Change(name, _words(one), _words(other))


def _told(profile: ProfileFile | None) -> dict[str, Any]:
    return profile.model_dump(exclude={"plan_sha256"}) if profile else {}


def _words(profile: ProfileFile | None) -> str | None:
    """The profile in a line."""
    if profile is None:
        return None
    slowed = f", edge ×{profile.edge_slowdown:g}" if profile.edge_slowdown != 1 else ""
    full = profile.times["full"].p50_ms
    return f"{profile.device}, {profile.threads} thread(s), {profile.provider}{slowed}: whole model {full:.2f} ms"
