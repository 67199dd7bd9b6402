"""Owns who is let in: tokens of tenants, of which a file holds only hashes. Never logs or keeps a token.

A file of tokens is TOML, one table for each:

    [[token]]
    tenant = "acme"
    name = "phone-app"
    sha256 = "…"

A token is 256 random bits, so that a plain hash of it can't be searched backwards, and looking one up tells nothing.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitmesh.errors import SettingsError, WireError
from splitmesh.wire.checks import check_sha256
from splitmesh.wire.subjects import check_token

MAX_TOKEN_CHARS = 256
_PREFIX = "smt_"
_KEYS = {"tenant", "name", "sha256"}


@dataclass(frozen=True, slots=True)
class Account:
    """Who asks."""

    tenant: str
    actor: str
    """The token's name, as it stands in audits and logs."""


def new_token() -> str:
    """Random, 256 bit, to be shown once."""
    return _PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(32)).decode("ascii").rstrip("=")


def entry(token: str, account: Account) -> str:
    """What a file of tokens says of `token`. Raises WireError for a name that does not fit a subject."""
    tenant, name = check_token(account.tenant, field="tenant"), check_token(account.actor, field="name")
    return f'[[token]]\ntenant = "{tenant}"\nname = "{name}"\nsha256 = "{_digest(token)}"\n'


class Tokens:
    """Those of one file, read again when it changes; or none at all, and everybody is `open_account`."""

    def __init__(self, path: Path | None, open_account: Account | None = None) -> None:
        """Raises SettingsError for a file that can't be used."""
        self._path = path
        self.open_account = open_account if path is None else None
        self._known: Mapping[str, Account] = {}
        self._stamp = (0, 0)
        if path is not None:
            self._read(path)

    @property
    def tenants(self) -> list[str]:
        """By name."""
        if self.open_account is not None:
            return [self.open_account.tenant]
        return sorted({account.tenant for account in self._known.values()})

    def account(self, token: str) -> Account | None:
        """Whose `token` it is; None: nobody's."""
        if len(token) > MAX_TOKEN_CHARS:
            return None
        return self._known.get(_digest(token))

    def refresh(self) -> bool:
        """Read the file anew if it has changed; True if so. Raises SettingsError, and keeps what was known."""
        if self._path is None or self._stamp == _stamp(self._path):
            return False
        self._read(self._path)
        return True

    def _read(self, path: Path) -> None:
        self._stamp = _stamp(path)
        try:
            rows = tomllib.loads(path.read_text(encoding="utf-8")).get("token", [])
        except OSError as exc:
            raise SettingsError(f"tokens {path} can't be read: {exc.strerror or exc}", key="tokens") from exc
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
            raise SettingsError(f"tokens {path} is not TOML: {exc}", key="tokens") from exc
        if not isinstance(rows, list):
            raise SettingsError(f"tokens {path}: write each as [[token]]", key="tokens")
        known = dict(_row(row, f"tokens {path}, token {number}") for number, row in enumerate(rows, 1))
        if not known:
            raise SettingsError(
                f"tokens {path} holds none: nobody could get in",
                key="tokens",
                advice="make one with `splitmesh gateway token TENANT`",
            )
        self._known = known


def _row(row: Any, where: str) -> tuple[str, Account]:
    if not isinstance(row, dict) or set(row) != _KEYS or not all(isinstance(value, str) for value in row.values()):
        raise SettingsError(f"{where}: it has just tenant, name and sha256, all texts", key="tokens")
    try:
        digest = check_sha256(row["sha256"], field="sha256")
        account = Account(check_token(row["tenant"], field="tenant"), check_token(row["name"], field="name"))
    except WireError as exc:
        raise SettingsError(f"{where}: {exc.message}", key="tokens", advice=exc.advice) from exc
    return digest, account


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    """(mtime in ns, size); (0, 0) while it is not there."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
