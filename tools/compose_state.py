"""Owns what a compose mesh keeps to itself: certificates, passwords, the brokers' accounts, a token, its video.

Usage: python tools/compose_state.py [--env deploy/compose/.env] [--rotate]

Everything lands in deploy/compose/state/, which git ignores: one folder for each service, which mounts no other.
What is there and still good is kept; --rotate makes certificates and passwords anew. Needs the `openssl` command.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from splitmesh.gateway.tokens import Account, entry, new_token

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = ROOT / "deploy" / "compose"
DAYS = 825
RENEW_BEFORE_S = 30 * 86_400
USERS = ("system", "worker", "gateway", "leaf", "edge", "grafana")

CERTIFICATES: dict[str, Sequence[str]] = {"hub": ("hub", "link"), "leaf": ("leaf",), "gateway": ("gateway",)}
"""Service → names that it is reached by: the leaf node reaches the hub through the link."""
CLIENTS: dict[str, str] = {"edge": "edge", "worker": "worker", "gateway": "gateway", "load": "edge"}
"""Service → the user that it logs in as."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SERVICES = ("infer.>", "worker.>", "cancel", "keep")
_FROM_EDGES = ("infer.>", "worker.>", "cancel", "keep", "result.*", "preview.*", "status.*", "agents.*")
_TO_EDGES = ("load", "edge.*", "agent.*")
_FROM_GATEWAY = ("infer.>", "worker.>", "cancel", "edge.*", "agent.*")
_TO_GATEWAY = ("load", "result.*", "preview.*", "status.*", "agents.*")
_TLS_FILES = (("cert_file", "cert.pem"), ("key_file", "key.pem"), ("ca_file", "ca.pem"))


class StateError(Exception):
    """What is wanted can't be made; the message says why."""


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--env", type=Path, default=COMPOSE / ".env", help="knobs of the mesh")
    arguments.add_argument("--state", type=Path, default=COMPOSE / "state", help="where it goes")
    arguments.add_argument("--rotate", action="store_true", help="certificates and passwords anew")
    given = arguments.parse_args()
    knobs = read_env(given.env.read_text(encoding="utf-8")) | dict(os.environ)
    try:
        make_state(given.state, tenant=knobs.get("TENANT") or "default", rotate=given.rotate)
        place_video(given.state / "media", knobs.get("VIDEO", ""))
    except StateError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    print(f"{given.state}: certificates, passwords and video are there; `token` in it opens the gateway")
    return 0


def read_env(text: str) -> dict[str, str]:
    """The variables of a .env file, without quotes around their values."""
    rows = (line.strip().partition("=") for line in text.splitlines() if not line.lstrip().startswith("#"))
    return {name: value.strip("\"'") for name, equals, value in rows if equals}


def make_state(state: Path, *, tenant: str, rotate: bool = False) -> None:
    """Everything but the video, below `state`. Raises StateError."""
    if not _TOKEN.fullmatch(tenant):
        raise StateError(f"TENANT {tenant!r} is not a name of 1 to 64 letters, digits, '_' or '-'")
    state.mkdir(parents=True, exist_ok=True)
    state.chmod(0o700)  # below it files are open to the services' user, whose number the host does not know
    if rotate:
        shutil.rmtree(state / "authority", ignore_errors=True)
        for secret in ("passwords.json", "token"):
            (state / secret).unlink(missing_ok=True)
    fresh = make_authority(state / "authority")
    for service, names in CERTIFICATES.items():
        make_certificate(state / service, service, names, state / "authority", anew=fresh)
    passwords = read_passwords(state / "passwords.json")
    write(state / "hub" / "accounts.conf", hub_accounts(tenant, passwords))
    write(state / "leaf" / "accounts.conf", leaf_accounts(tenant, passwords))
    authority = (state / "authority" / "ca.pem").read_text(encoding="ascii")
    for service, user in CLIENTS.items():
        write(state / service / "ca.pem", authority)
        write(state / service / "creds", f"{user}:{passwords[user]}\n")
    write(state / "grafana" / "password", passwords["grafana"])
    if not (state / "token").is_file():
        write(state / "token", new_token() + "\n", mode=0o600)
    token = (state / "token").read_text(encoding="ascii").strip()
    write(state / "gateway" / "tokens.toml", entry(token, Account(tenant, "compose")))


def make_authority(folder: Path) -> bool:
    """True if it was made anew."""
    if still_good(folder / "ca.pem") and (folder / "ca.key").is_file():
        return False
    folder.mkdir(parents=True, exist_ok=True)
    openssl(
        folder, "req", "-x509", *fresh_key("ca.key"), "-subj", "/CN=splitmesh compose authority",
        "-addext", "basicConstraints=critical,CA:TRUE,pathlen:0", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        "-days", str(DAYS), "-out", "ca.pem",
    )  # fmt: skip
    return True


def make_certificate(folder: Path, name: str, names: Sequence[str], authority: Path, *, anew: bool) -> None:
    """`cert.pem` and `key.pem` for a server that is also a client, with the authority's `ca.pem` beside them."""
    if not anew and still_good(folder / "cert.pem"):
        return
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(authority / "ca.pem", folder / "ca.pem")
    openssl(folder, "req", *fresh_key("key.pem"), "-subj", f"/CN={name}", "-out", "request.pem")
    extensions = (
        f"subjectAltName = {', '.join(f'DNS:{each}' for each in (*names, 'localhost'))}, IP:127.0.0.1",
        "extendedKeyUsage = serverAuth, clientAuth",
        "keyUsage = critical, digitalSignature",
        "basicConstraints = critical, CA:FALSE",
    )
    (folder / "extensions").write_text("\n".join(extensions), encoding="ascii")
    openssl(
        folder, "x509", "-req", "-in", "request.pem", "-CA", str(authority / "ca.pem"), "-CAkey",
        str(authority / "ca.key"), "-set_serial", str(secrets.randbits(127)), "-extfile", "extensions",
        "-days", str(DAYS), "-out", "cert.pem",
    )  # fmt: skip
    for name in ("request.pem", "extensions"):
        (folder / name).unlink()
    (folder / "key.pem").chmod(0o644)


def fresh_key(file: str) -> tuple[str, ...]:
    return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", file)


def still_good(certificate: Path) -> bool:
    """True if it is there and stays valid for a month."""
    command = ["openssl", "x509", "-checkend", str(RENEW_BEFORE_S), "-noout", "-in", str(certificate)]
    return certificate.is_file() and subprocess.run(command, capture_output=True).returncode == 0


def openssl(folder: Path, *arguments: str) -> None:
    if shutil.which("openssl") is None:
        raise StateError("there is no openssl: on Debian and Ubuntu, apt install openssl")
    done = subprocess.run(["openssl", *arguments], cwd=folder.resolve(), capture_output=True, text=True)
    if done.returncode:
        raise StateError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")


def read_passwords(file: Path) -> dict[str, str]:
    """User → password; those that are missing are drawn, 256 bits each."""
    known: dict[str, str] = json.loads(file.read_text(encoding="ascii")) if file.is_file() else {}
    passwords = known | {user: secrets.token_urlsafe(32) for user in USERS if user not in known}
    write(file, json.dumps(passwords, indent=1) + "\n", mode=0o600)
    return passwords


def hub_accounts(tenant: str, passwords: Mapping[str, str]) -> str:
    """The hub's part of its configuration: workers in one account, whose subjects the tenant's account imports."""
    kinds = [*(("service", what) for what in _SERVICES), ("stream", "load")]
    exports = [f"{{ {kind}: {_subject(tenant, what)}, accounts: [{tenant}] }}" for kind, what in kinds]
    imports = [f"{{ {kind}: {{ account: workers, subject: {_subject(tenant, what)} }} }}" for kind, what in kinds]
    worker = _user("worker", passwords, tenant, publish=("load",), subscribe=_SERVICES, replies=True)
    leaf = _user("leaf", passwords, tenant, publish=_FROM_EDGES, subscribe=_TO_EDGES, replies=True)
    gateway = _user("gateway", passwords, tenant, publish=_FROM_GATEWAY, subscribe=_TO_GATEWAY)
    return "\n".join(
        (
            "system_account: system",
            "accounts {",
            f'  system {{ users: [ {{ user: system, password: "{passwords["system"]}" }} ] }}',
            f"  workers {{\n    users: [ {worker} ]\n    exports: {_listed(exports)}\n  }}",
            f"  {tenant} {{\n    jetstream: enabled\n    users: {_listed([leaf, gateway])}\n"
            f"    imports: {_listed(imports)}\n  }}",
            "}\n",
        )
    )


def leaf_accounts(tenant: str, passwords: Mapping[str, str]) -> str:
    """The leaf's part: edges in the tenant's account, which the uplink binds to the hub's."""
    edge = _user("edge", passwords, tenant, publish=_FROM_EDGES, subscribe=_TO_EDGES, replies=True)
    tls = "".join(f'{key}: "/etc/nats/secrets/{file}", ' for key, file in _TLS_FILES)
    return "\n".join(
        (
            f"accounts {{ {tenant} {{ users: [ {edge} ] }} }}",
            "leafnodes {",
            "  reconnect: 1",
            "  remotes: [ {",
            f'    urls: ["tls://leaf:{passwords["leaf"]}@link:7422"]',
            f"    account: {tenant}",
            f"    tls {{ {tls}timeout: 10 }}",
            "  } ]",
            "}\n",
        )
    )


def _user(
    name: str,
    passwords: Mapping[str, str],
    tenant: str,
    *,
    publish: Sequence[str],
    subscribe: Sequence[str],
    replies: bool = False,
) -> str:
    """replies: may answer whatever it was asked."""
    allowed = [[*(_subject(tenant, each) for each in what), "_INBOX.>"] for what in (publish, subscribe)]
    answer = ', allow_responses: { max: 4, expires: "1m" }' if replies else ""
    return (
        f'{{ user: {name}, password: "{passwords[name]}", permissions: '
        f"{{ publish: {json.dumps(allowed[0])}, subscribe: {json.dumps(allowed[1])}{answer} }} }}"
    )


def _subject(tenant: str, what: str) -> str:
    return f"sm.v1.{tenant}.{what}"


def _listed(rows: Sequence[str]) -> str:
    return "[\n      " + "\n      ".join(rows) + "\n    ]"


def place_video(folder: Path, video: str) -> None:
    """The edge's footage as `folder`/sample: the file `video`, else the built-in street clip. Raises StateError."""
    target = folder / "sample"
    folder.mkdir(parents=True, exist_ok=True)
    if video:
        source = Path(video).expanduser()
        source = source if source.is_absolute() else COMPOSE / source
        if not source.is_file():
            raise StateError(f"VIDEO {source} is no file")
        if not target.is_file() or target.stat().st_size != source.stat().st_size:
            shutil.copyfile(source, target)
    elif not target.is_file():
        from splitmesh.errors import ModelError
        from splitmesh.models.registry import default_clip

        try:
            shutil.copyfile(default_clip(), target)
        except ModelError as exc:
            raise StateError(f"{exc}; or set VIDEO in the .env file to a file that is here") from exc
    target.chmod(0o644)


def write(file: Path, text: str, *, mode: int = 0o644) -> None:
    """`text` into `file`, which nobody can read before it has its rights."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="ascii") as out:
        out.write(text)


if __name__ == "__main__":
    raise SystemExit(main())
