"""Owns the names of subjects. Refuses tokens that could address somebody else's subject.

Grammar (a token is 1 to 64 of `A-Z a-z 0-9 _ -`; wildcards and dots can't occur in one):

    sm.v1.<tenant>.infer.<model>.<cut>   work for any worker of the pool; cut "whole": the whole model
    sm.v1.<tenant>.worker.<worker>       work for this very worker
    sm.v1.<tenant>.worker.<worker>.table   calibration tables for it
    sm.v1.<tenant>.worker.<worker>.spans   what it did for a frame
    sm.v1.<tenant>.load                  heartbeats of workers
    sm.v1.<tenant>.cancel                ids that nobody waits for any more
    sm.v1.<tenant>.keep                  frames whose traces are wanted after all
    sm.v1.<tenant>.result.<edge>         results of an edge, while somebody watches
    sm.v1.<tenant>.preview.<edge>        pictures of it, while somebody watches
    sm.v1.<tenant>.status.<edge>         how it fares, once a second
    sm.v1.<tenant>.edge.<edge>           commands for it
    sm.v1.<tenant>.agent.<agent>         commands for the agent of a box: which cameras it shall serve
    sm.v1.<tenant>.agents.<agent>        which it serves, every five seconds
    sm.v1.<tenant>.lab                   what a lab shall do to its own mesh; elsewhere nobody listens
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


def spans(tenant: str, worker_id: str) -> str:
    """Where a worker is asked what it did for a frame. Raises WireError."""
    return f"{worker(tenant, worker_id)}.spans"


def load(tenant: str) -> str:
    """Where heartbeats go. Raises WireError."""
    return f"{_tenant(tenant)}.load"


def cancel(tenant: str) -> str:
    """Where cancellations go. Raises WireError."""
    return f"{_tenant(tenant)}.cancel"


def keep(tenant: str) -> str:
    """Where edges name frames whose traces are wanted after all. Raises WireError."""
    return f"{_tenant(tenant)}.keep"


def result(tenant: str, edge: str) -> str:
    """Where an edge publishes its results. Raises WireError."""
    return f"{_tenant(tenant)}.result.{check_token(edge, field='edge_id')}"


def preview(tenant: str, edge: str) -> str:
    """Where an edge publishes pictures. Raises WireError."""
    return f"{_tenant(tenant)}.preview.{check_token(edge, field='edge_id')}"


def status(tenant: str, edge: str) -> str:
    """Where an edge says how it fares. Raises WireError."""
    return f"{_tenant(tenant)}.status.{check_token(edge, field='edge_id')}"


def statuses(tenant: str) -> str:
    """To subscribe to: how every edge fares. Raises WireError."""
    return f"{_tenant(tenant)}.status.*"


def command(tenant: str, edge: str) -> str:
    """Where an edge takes commands. Raises WireError."""
    return f"{_tenant(tenant)}.edge.{check_token(edge, field='edge_id')}"


def agent(tenant: str, name: str) -> str:
    """Where an agent takes commands. Raises WireError."""
    return f"{_tenant(tenant)}.agent.{check_token(name, field='agent_id')}"


def agents(tenant: str, name: str) -> str:
    """Where an agent says which streams it runs. Raises WireError."""
    return f"{_tenant(tenant)}.agents.{check_token(name, field='agent_id')}"


def lab(tenant: str) -> str:
    """Where a lab takes commands. Raises WireError."""
    return f"{_tenant(tenant)}.lab"


def _tenant(tenant: str) -> str:
    return f"{PREFIX}.{check_token(tenant, field='tenant')}"
