"""Owns what is said when a target can't be reached, and how far its certificate is trusted."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import ssl
from pathlib import Path

from meshload.errors import LoadError


def words_for(exc: BaseException) -> str:
    """What went wrong, in a few words."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {exc.verify_message}"
    if isinstance(exc, ssl.SSLError):
        return f"TLS failed: {(exc.reason or 'no TLS there').lower().replace('_', ' ')}"
    if isinstance(exc, ConnectionRefusedError):
        return "connection refused: nothing listens there"
    if isinstance(exc, socket.gaierror):
        return "its host name is not known"
    if isinstance(exc, TimeoutError):
        return "no answer in time while connecting"
    if isinstance(exc, ConnectionError):
        return str(exc) or "the connection was closed"
    if isinstance(exc, ValueError):
        return "what listens there speaks another protocol"
    return f"can't connect: {exc.strerror or exc}" if isinstance(exc, OSError) else f"can't connect: {exc}"


def advice_for(exc: BaseException, server: str) -> str:
    """What the user can do."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return "--tls-ca FILE names whom to trust, --tls-insecure trusts anybody"
    if isinstance(exc, ssl.SSLError):
        return "is this a TLS port?"
    if isinstance(exc, ConnectionRefusedError):
        return f"is {server} running, and is the port right?"
    if isinstance(exc, OSError) and exc.errno == errno.EMFILE:
        return "allow more open files: ulimit -n"
    return "check host, port and credentials"


def label_for(exc: BaseException) -> str:
    """The class of a request's error, where no connection could be made for it."""
    if isinstance(exc, ConnectionRefusedError):
        return "connection refused"
    if isinstance(exc, TimeoutError):
        return "connect timed out"
    if isinstance(exc, ssl.SSLError):
        return "TLS failed"
    return "too many open files" if isinstance(exc, OSError) and exc.errno == errno.EMFILE else "can't connect"


def allow_files(count: int) -> None:
    """Let this process have `count` files open at once, or as many as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def knock(host: str, port: int, context: ssl.SSLContext | None, *, timeout_s: float) -> None:
    """Connect, with TLS if there is a `context`, and leave again. Raises OSError, TimeoutError: see `words_for`."""
    async with asyncio.timeout(timeout_s):
        _, writer = await asyncio.open_connection(host, port, ssl=context)
        writer.transport.abort()  # no farewell: gRPC servers do not answer one
    await asyncio.sleep(0)


def tls_context(ca: Path | None, *, insecure: bool) -> ssl.SSLContext:
    """Raises LoadError if `ca` can't be read."""
    try:
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
    except (OSError, ssl.SSLError) as exc:
        raise LoadError(f"--tls-ca {ca}: {exc}", advice="name a file of PEM certificates") from exc
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
