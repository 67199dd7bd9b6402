"""Decoders with one fault each, for the tests of the fuzzer."""

from __future__ import annotations

import ctypes
import threading
import time

import numpy as np
from tools.fuzz_child import Target, WrongResult

from splitmesh.errors import WireError

GOOD = b"SM" + bytes(range(60))


def _target(fault: object) -> Target:
    """Refuses what does not start with "SM", and meets `fault` where the tenth byte was changed."""

    def decode(payload: bytes) -> None:
        if payload[:2] != b"SM":
            raise WireError("no payload")
        if payload[10:11] != GOOD[10:11]:
            fault()  # type: ignore[operator]

    return Target([GOOD], lambda: decode)


def _key_error() -> None:
    raise KeyError("tenth")


def _wrong() -> None:
    raise WrongResult("a shape")


def sound() -> Target:
    return _target(lambda: None)


def raises() -> Target:
    return _target(_key_error)


def wrong() -> Target:
    return _target(_wrong)


def hoards() -> Target:
    return _target(lambda: np.empty(1 << 30, np.uint8))


def crashes() -> Target:
    return _target(lambda: ctypes.string_at(0))


def waits() -> Target:
    return _target(threading.Event().wait)


def _spin() -> None:
    until_s = time.process_time() + 1.1
    while time.process_time() < until_s:
        pass


def spins() -> Target:
    return _target(_spin)


def refuses_good() -> Target:
    def decode(payload: bytes) -> None:
        raise WireError("never good enough")

    return Target([GOOD], lambda: decode)
