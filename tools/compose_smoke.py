"""Asks a running compose mesh whether frames flow: counted without a gap, and some of them answered by the workers.

Usage: python tools/compose_smoke.py [--frames 100] [--seconds 180]; EDGE_PORT as in deploy/compose/.env
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

REMOTE = ("split", "frame")
_POLL_S = 0.5
_ASK_S = 5.0


class SmokeError(Exception):
    """The mesh does not do what it should; the message says what it does."""


def edge_status(port: int) -> dict[str, Any] | None:
    """What the edge says of itself, None while it does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ASK_S)
    try:
        connection.request("GET", "/status")
        reply = connection.getresponse()
        return json.loads(reply.read()) if reply.status == 200 else None
    except (OSError, http.client.HTTPException, json.JSONDecodeError):
        return None
    finally:
        connection.close()


def unaccounted(status: dict[str, Any]) -> int:
    """Frames that were captured, are not in flight and have no outcome: 0, or frames were lost."""
    settled = sum(count for outcome, count in status["counts"].items() if outcome != "captured")
    return int(status["captured"] - settled - status["in_flight"])


def remote(status: dict[str, Any]) -> int:
    """Frames that a worker answered."""
    return sum(status["counts"].get(outcome, 0) for outcome in REMOTE)


def wait_for(port: int, what: str, condition: Callable[[dict[str, Any]], bool], *, seconds: float) -> dict[str, Any]:
    """The first status for which `condition` holds. Raises SmokeError after `seconds`, or if a frame is lost."""
    until = time.monotonic() + seconds
    last: dict[str, Any] | None = None
    while time.monotonic() < until:
        status = edge_status(port)
        if status is not None:
            last = status
            if gap := unaccounted(status):
                raise SmokeError(f"{gap} frames are unaccounted for: {summary(status)}")
            if condition(status):
                return status
        time.sleep(_POLL_S)
    raise SmokeError(f"not within {seconds:g} s: {what}; {summary(last) if last else 'the edge does not answer'}")


def summary(status: dict[str, Any]) -> str:
    counts = ", ".join(f"{count} {outcome}" for outcome, count in status["counts"].items() if count)
    return f"{counts}; {status['in_flight']} in flight; breaker {status['breaker']}; broker {status['broker']}"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--frames", type=int, default=100, help="captured frames to wait for")
    arguments.add_argument("--seconds", type=float, default=180.0, help="patience, making plans included")
    given = arguments.parse_args()
    port = int(os.environ.get("EDGE_PORT") or 9464)
    try:
        status = wait_for(
            port, f"{given.frames} frames, one of them answered by a worker",
            lambda status: status["captured"] >= given.frames and remote(status) > 0, seconds=given.seconds,
        )  # fmt: skip
    except SmokeError as exc:
        print(f"compose-smoke: {exc}", file=sys.stderr)
        return 1
    print(f"compose-smoke: {summary(status)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
