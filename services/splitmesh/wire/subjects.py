"""Owns the names of subjects. Refuses tokens that could address somebody else's subject.

Grammar (a token is 1 to 64 of `A-Z a-z 0-9 _ -`; wildcards and dots can't occur in one):

    sm.v1.<tenant>.infer.<model>.<cut>   work for any worker of the pool; cut "whole": the whole model
    sm.v1.<tenant>.worker.<worker>       work for this very worker
    sm.v1.<tenant>.worker.<worker>.table   calibration tables for it
    sm.v1.<tenant>.load                  heartbeats of workers
    sm.v1.<tenant>.cancel                ids that nobody waits for any more
    sm.v1.<tenant>.result.<edge>         results of an edge
"""

from __future__ import annotations

import re

from splitmesh.errors import WireError

PREFIX = "sm.v1"
WHOLE = "whole"
"""The cut token that stands for the uncut model."""
POOL = "pool"
"""Queue group of the workers: each request on an infer subject reaches one of them."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_token(value: str, *, field: str) -> str:
    """`value`, if it is one token. Raises WireError that names `field` otherwise."""
    if not _TOKEN.fullmatch(value):
        raise WireError(
            f"{field} {value[:80]!r} is not a name of 1 to 64 letters, digits, '_' or '-'",
            advice=f"choose another {field}",
        )
    return value


def infer(tenant: str, model: str, cut: str) -> str:
    """Where work for `model` cut at `cut` ("": the whole model) is sent. Raises WireError."""
    if cut == WHOLE:
        raise WireError(f"cut {WHOLE!r} is reserved for the uncut model")
    cut_token = check_token(cut, field="cut") if cut else WHOLE
    return f"{_tenant(tenant)}.infer.{check_token(model, field='model')}.{cut_token}"


def worker(tenant: str, worker_id: str) -> str:
    """Where work for one worker is sent. Raises WireError."""
    return f"{_tenant(tenant)}.worker.{check_token(worker_id, field='worker_id')}"


def table(tenant: str, worker_id: str) -> str:
    """Where calibration tables for one worker are sent. Raises WireError."""
    return f"{worker(tenant, worker_id)}.table"


def load(tenant: str) -> str:
    """Where heartbeats go. Raises WireError."""
    return f"{_tenant(tenant)}.load"


def cancel(tenant: str) -> str:
    """Where cancellations go. Raises WireError."""
    return f"{_tenant(tenant)}.cancel"


def result(tenant: str, edge: str) -> str:
    """Where an edge publishes its results. Raises WireError."""
    return f"{_tenant(tenant)}.result.{check_token(edge, field='edge_id')}"


def _tenant(tenant: str) -> str:
    return f"{PREFIX}.{check_token(tenant, field='tenant')}"
