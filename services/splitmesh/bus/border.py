"""Owns the border to nats-py: its errors become the mesh's, the broker's refusals are known, its URLs are checked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import nats.errors

from splitmesh.bus.base import Message
from splitmesh.bus.rules import BadMessage
from splitmesh.errors import BusUnavailable, PayloadTooLarge

LOST = (nats.errors.Error, OSError, TimeoutError)
"""What nats-py raises when the connection is not there."""

_NO_RESPONDERS = "503"


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Errors of nats-py and of sockets become errors of the mesh."""
    try:
        yield
    except nats.errors.MaxPayloadError as exc:
        raise PayloadTooLarge(str(exc)) from exc
    except (nats.errors.BadSubjectError, nats.errors.BadHeaderError) as exc:
        raise BadMessage(str(exc)) from exc
    except LOST as exc:
        raise BusUnavailable(f"the broker is not reachable: {exc}") from exc


def unanswerable(message: Message) -> bool:
    """True if it is the broker that says: nobody listens where we published."""
    return not message.payload and message.headers.get("Status") == _NO_RESPONDERS


def check_url(url: str) -> None:
    """Raises BadMessage unless `url` is `nats://[user:password@]host[:port]` or `tls://…`."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("nats", "tls") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise BadMessage(f"{without_credentials(url)!r} is not a NATS URL", advice="write nats://host:4222")


def without_credentials(url: str) -> str:
    """`url` as it may be shown."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
