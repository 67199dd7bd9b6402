"""Owns the names of the rivals: published controllers, each tuned as docs/architecture.md says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from splitmesh.policy.base import Policy
from splitmesh.policy.rivals.ans import Ans
from splitmesh.policy.rivals.awstream import AwStream
from splitmesh.policy.rivals.dads import Dads
from splitmesh.policy.rivals.dyno import Dyno
from splitmesh.policy.rivals.neurosurgeon import Neurosurgeon

RIVALS: Mapping[str, Callable[[], Policy]] = MappingProxyType(
    {
        "neurosurgeon": Neurosurgeon,
        "dads": Dads,
        "dyno": Dyno,
        "ans": Ans,
        "ans-discounted": partial(Ans, discount=0.98),
        "awstream": AwStream,
    }
)
