"""Owns how a connection proves who it is and checks the broker that answers. Secrets come from files, never by value.

Files are read again for each connection, so that what was rotated on disk holds from the next reconnect on.
"""

from __future__ import annotations

import importlib.util
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from splitmesh.errors import BusError

_JWT_MARK = "BEGIN NATS USER JWT"
_SEED_PREFIX = "SU"
"""Nkey seeds of users begin so (github.com/nats-io/nkeys, "User seed")."""
_MAX_CREDENTIALS_BYTES = 64 * 1024


class SecurityError(BusError):
    """A certificate, key or credentials file is missing or not what it should be; `path` names it."""

    retryable = False

    def __init__(self, message: str, *, path: Path, advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.path = path


class _Settings(Protocol):
    """What settings of a process on the bus say of security."""

    @property
    def nats_ca(self) -> Path | None: ...
    @property
    def nats_cert(self) -> Path | None: ...
    @property
    def nats_key(self) -> Path | None: ...
    @property
    def nats_creds(self) -> Path | None: ...


@dataclass(frozen=True, slots=True)
class Security:
    """ca: PEM of the authorities that the broker's certificate is checked against; None: the system's.

    cert, key: PEM of our own certificate, for brokers that verify clients; `key` may be in the file of `cert`.
    creds: a NATS credentials file (JWT and seed), a file with an nkey user seed, or one line `user:password`.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    creds: Path | None = None

    @classmethod
    def of(cls, settings: _Settings) -> Security:
        return cls(ca=settings.nats_ca, cert=settings.nats_cert, key=settings.nats_key, creds=settings.nats_creds)

    def requires_tls(self, url: str) -> bool:
        """True if a broker that offers no TLS must be sent nothing."""
        return url.startswith("tls://") or self.ca is not None or self.cert is not None

    def check(self, url: str) -> None:
        """Raises SecurityError unless all files can be used."""
        if self.requires_tls(url) or self.key is not None:
            self.context()
        self.login()

    def context(self) -> ssl.SSLContext:
        """For one connection, from the files as they are now. Raises SecurityError."""
        if self.key is not None and self.cert is None:
            raise SecurityError(
                f"{self.key} is a key without a certificate", path=self.key, advice="set nats_cert too"
            )
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as exc:  # ssl.SSLError is one
            raise _unusable(self.ca, exc) from exc
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert is not None:
            try:
                context.load_cert_chain(self.cert, self.key)
            except OSError as exc:
                raise _unusable(self.cert, exc) from exc
        return context

    def login(self) -> dict[str, Any]:
        """What nats-py's `connect` is given to log in; it reads the file again for each connection.

        Raises SecurityError, which never holds what the file says.
        """
        path = self.creds
        if path is None:
            return {}
        text = _read(path)
        if _JWT_MARK in text:
            _need_nkeys(path)
            return {"user_credentials": str(path)}
        if text.startswith(_SEED_PREFIX) and ":" not in text:
            _need_nkeys(path)
            return {"nkeys_seed": str(path)}
        _user_and_password(path)
        return {"user": lambda: _again(path)[0], "password": lambda: _again(path)[1]}


NO_SECURITY = Security()
"""Neither certificates nor credentials beyond what the URL holds."""


def _user_and_password(path: Path) -> tuple[str, str]:
    user, _, password = (text := _read(path)).partition(":")
    if not (user and password) or "\n" in text:
        raise SecurityError(
            f"{path} holds no credentials that NATS knows",
            path=path,
            advice="a credentials file of nsc, an nkey seed (SU…), or one line user:password",
        )
    return user, password


def _again(path: Path) -> tuple[str, str]:
    """For a further connection: a file that is just being replaced fails this attempt, not the client."""
    try:
        return _user_and_password(path)
    except SecurityError as exc:
        raise ConnectionError(str(exc)) from exc


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_CREDENTIALS_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise _unusable(path, exc) from exc


def _need_nkeys(path: Path) -> None:
    if importlib.util.find_spec("nkeys") is None:
        raise SecurityError(
            f"{path} needs the package nkeys, which is not installed", path=path, advice="pip install nkeys"
        )


def _unusable(path: Path | None, exc: Exception) -> SecurityError:
    reason = (
        exc.strerror if isinstance(exc, OSError) and exc.errno and exc.strerror else "it is not what it should be"
    )
    return SecurityError(
        f"{path} can't be used: {reason}", path=path or Path(), advice="check the path and its rights"
    )
