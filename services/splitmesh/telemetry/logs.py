"""Owns how log lines look: one-liners for people, JSON for machines, both with the trace id when one is given.

`log.info("late", extra={"trace_id": t, "frame_id": f, "bytes": n})`: every `extra` becomes a field.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import Any, TextIO

from splitmesh.telemetry.repeats import Repeats

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_URL_SECRET = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s@]+@", re.IGNORECASE)
_QUERY_SECRET = re.compile(
    r"([?&](?:token|password|passwd|pwd|secret|key|apikey|api_key|sig|signature)=)[^&\s]+", re.I
)
_COLOURS = {"WARNING": "33", "ERROR": "31", "CRITICAL": "31;1"}
_NOISY = ("numexpr", "opentelemetry", "urllib3", "uvicorn", "nats", "asyncio")


def configure_logs(*, as_json: bool = False, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send this process's logs to `stream` (default stderr), replacing handlers set before.

    Lines that repeat are thinned out: see `telemetry.repeats`.
    """
    out = stream if stream is not None else sys.stderr
    handler = logging.StreamHandler(out)
    handler.addFilter(Repeats())
    handler.setFormatter(JsonLines() if as_json else OneLiners(colour=out.isatty()))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)


def masked(text: str) -> str:
    """`text` with the user, password and secret-looking query values of every URL in it replaced by `***`."""
    return _QUERY_SECRET.sub(r"\1***", _URL_SECRET.sub(r"\1***@", text)) if "://" in text else text


class JsonLines(logging.Formatter):
    """`{"ts", "level", "logger", "message", …extra fields, "exception"?}`; ts is RFC 3339 UTC with microseconds."""

    def format(self, record: logging.LogRecord) -> str:
        micros = int(record.created % 1 * 1e6)
        row: dict[str, Any] = {
            "ts": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{micros:06d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": masked(record.getMessage()),
            **_fields(record),
        }
        if record.exc_info:
            row["exception"] = masked(self.formatException(record.exc_info))
        return json.dumps(row, default=str, ensure_ascii=False)


class OneLiners(logging.Formatter):
    """`12:03:01.123 WARNING edge: message key=value`."""

    def __init__(self, *, colour: bool = False) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = f"{record.levelname:<7}"
        if self._colour and record.levelname in _COLOURS:
            level = f"\x1b[{_COLOURS[record.levelname]}m{level}\x1b[0m"
        name = record.name.removeprefix("splitmesh.")
        fields = "".join(f" {key}={value}" for key, value in _fields(record).items())
        line = f"{clock}.{int(record.msecs):03d} {level} {name}: {masked(record.getMessage())}{fields}"
        if record.exc_info:
            line += "\n" + masked(self.formatException(record.exc_info))
        return line


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {
        key: masked(value) if isinstance(value, str) else value
        for key, value in vars(record).items()
        if key not in _STANDARD and not key.startswith("_")
    }
