"""Owns finding the times of this very device for a plan, or measuring them once and keeping them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from splitmesh.errors import ModelError, OutputError
from splitmesh.inference.planning.verify import measured_profile
from splitmesh.inference.profile import device_class
from splitmesh.inference.providers import describe_device, select
from splitmesh.models.fetch import default_cache
from splitmesh.plan.bundle.draft import add_profile, write_atomically
from splitmesh.plan.bundle.format import parse_profile, profile_bytes, read_limited
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.footage import Footage
from splitmesh.provision.parts import Progress
from splitmesh.provision.pictures import picture_kinds

_log = logging.getLogger(__name__)


def profiled(bundle: Bundle, *, threads: int, providers: Sequence[str] = ("auto",), progress: Progress) -> Bundle:
    """`bundle` with the profile of this device and `threads`: the plan's own, one measured before, or a new one.

    A new one goes into the plan's folder, so that it is there for others; into the cache if the folder can't be
    written. Raises ModelError, InferenceError, OutputError.
    """
    device = describe_device(select(providers)[0])
    for name, reason in bundle.refused.items():
        _log.warning("profile %s is not used: %s", name, reason)
    found = bundle.select(device=device, threads=threads)
    if found.profile is not None:
        return found
    known = _kept(bundle, device_class(device, threads))
    if known.profile is not None and (known.device, known.threads) == (device, threads):
        return known
    profile = measured_profile(
        bundle,
        Footage(),
        threads=threads,
        providers=tuple(providers),
        pictures=picture_kinds(),
        progress=progress,
    )
    try:
        add_profile(bundle.folder, profile)
    except OutputError as exc:
        kept = _cache_file(bundle, profile.device_class)
        _log.info("the profile of this device goes to %s: %s", kept, exc)
        write_atomically(kept, profile_bytes(profile))
    return bundle.with_profile(profile)


def _kept(bundle: Bundle, name: str) -> Bundle:
    path = _cache_file(bundle, name)
    if not path.is_file():
        return bundle
    try:
        return bundle.with_profile(parse_profile(read_limited(path), plan_sha256=bundle.plan_sha256, where=path))
    except ModelError as exc:
        _log.warning("profile is measured again: %s", exc)
        return bundle


def _cache_file(bundle: Bundle, name: str) -> Path:
    return default_cache() / "profiles" / bundle.plan_sha256[:16] / f"{name}.json"
