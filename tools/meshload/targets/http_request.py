"""Owns what requests of HTTP/1.1 and HTTP/2 have in common: fields, and the class of an answer. Pure: no socket.

RFC 9110. What a user gives with `--header` takes the place of what would be sent on its own.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, quote, unquote

from meshload.errors import TargetError
from meshload.target import Payload, Reply, Status
from meshload.targets import TargetOptions

BODILESS: Final = {"GET", "HEAD"}
_REFUSALS: Final = {429, 503}
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_FRAMING: Final = {"content-length", "transfer-encoding"}
_PATH: Final = "/%:@!$&'()*+,;=~"
_QUERY: Final = _PATH + "?[]"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What all requests to one URL say. All text fits latin-1."""

    method: str
    authority: str
    """What Host, or `:authority`, names."""
    path: str
    """With the query."""
    headers: tuple[tuple[str, str], ...]
    """Those of the user but Host, and what the URL's credentials mean."""

    def fields(self, payload: Payload) -> list[tuple[str, str]]:
        """The header fields of a request with `payload`, but for Host."""
        found = list(self.headers)
        if self.method not in BODILESS:
            found.append(("Content-Length", str(len(payload.body))))
            if not any(name.lower() == "content-type" for name, _ in found):
                found.append(("Content-Type", payload.content_type))
        return found

    def body(self, payload: Payload) -> bytes:
        return b"" if self.method in BODILESS else payload.body


def read_request(url: str, parts: SplitResult, options: TargetOptions) -> HttpRequest:
    """Raises TargetError for a method or a header field that HTTP can't carry."""
    method = options.method.upper()
    if not _TOKEN.fullmatch(method):
        raise TargetError(f"--method {options.method!r} is no method", url=url, advice="give GET, POST, PUT …")
    authority = parts.netloc.rpartition("@")[2]
    headers: list[tuple[str, str]] = []
    for name, value in options.headers:
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise TargetError(
                f"header {name!r} can't be sent", url=url, advice="a name of letters and dashes, a value of Latin-1"
            )
        if name.lower() in _FRAMING:
            raise TargetError(f"header {name} follows from the payload", url=url, advice="leave it out")
        if name.lower() == "host":
            authority = value
        else:
            headers.append((name, value))
    if parts.username is not None and not any(name.lower() == "authorization" for name, _ in headers):
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers.append(("Authorization", f"Basic {b64encode(secret).decode()}"))
    query = f"?{quote(parts.query, safe=_QUERY)}" if parts.query else ""
    return HttpRequest(method, authority, (quote(parts.path, safe=_PATH) or "/") + query, tuple(headers))


def answered(status: int, received_bytes: int) -> Reply:
    """What an answer with this status code is."""
    if status < 400:
        return Reply(Status.OK, "", received_bytes)
    return Reply(Status.REFUSED if status in _REFUSALS else Status.ERROR, f"http {status}", received_bytes)
