"""Owns the Secrets that the Helm chart names: certificates, passwords, logins and tokens of a mesh, as one JSON list.

Usage: python -m tools.chart_secrets --state DIR --release NAME --namespace NS --tenants a,b | kubectl apply -f -

DIR keeps what was drawn, so that another tenant or a certificate that nears its end changes nothing else; --rotate
draws all of it anew. Needs the `openssl` command. Where something else issues certificates (cert-manager), leave them
out with --without broker-tls,leaf-tls,ca.
"""

from __future__ import annotations

import argparse
import base64
import json
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tools.compose_state import StateError, make_authority, make_certificate, write

from splitmesh.errors import WireError
from splitmesh.gateway.tokens import Account, entry, new_token
from splitmesh.wire.subjects import check_token


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--state", type=Path, required=True, help="folder that keeps what was drawn; keep it safe")
    arguments.add_argument("--release", default="splitmesh", help="name of the Helm release")
    arguments.add_argument("--namespace", default="splitmesh")
    arguments.add_argument("--tenants", default="default", help="names, with commas between them")
    arguments.add_argument(
        "--host", action="append", default=[], help="further name that leaf brokers know the hub by"
    )
    arguments.add_argument("--without", default="", help="keys of Secrets to leave out, with commas between them")
    arguments.add_argument("--rotate", action="store_true", help="certificates, passwords and tokens anew")
    given = arguments.parse_args()
    if given.rotate:
        shutil.rmtree(given.state, ignore_errors=True)
    try:
        tenants = [check_token(name, field="tenant") for name in given.tenants.split(",")]
        hosts = [*broker_names(fullname(given.release), given.namespace), *given.host]
        made = secret_files(given.state, tenants=tenants, hosts=hosts)
    except (StateError, WireError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    left_out = set(given.without.split(","))
    manifests = [
        manifest(f"{fullname(given.release)}-{key}", given.namespace, given.release, files)
        for key, files in made.items()
        if key not in left_out
    ]
    print(json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}, indent=1))
    print(f"{given.state}/tokens.json opens the gateways", file=sys.stderr)
    return 0


def fullname(release: str) -> str:
    """What the chart calls the release in full."""
    return (release if "splitmesh" in release else f"{release}-splitmesh")[:40].rstrip("-")


def broker_names(full: str, namespace: str) -> list[str]:
    """Names that the embedded broker, and each of its replicas, is reached by within the cluster."""
    service = f"{full}-broker.{namespace}.svc"
    return [service, f"{service}.cluster.local", f"*.{full}-broker-pods.{namespace}.svc"]


def users(tenants: Sequence[str]) -> list[str]:
    """Who logs in at the hub."""
    return ["system", "worker", *(f"{tenant}-{side}" for tenant in tenants for side in ("leaf", "edge", "gateway"))]


def secret_files(state: Path, *, tenants: Sequence[str], hosts: Sequence[str]) -> dict[str, dict[str, str]]:
    """Key of a Secret → its files. What `state` has and is still good is kept. Raises StateError."""
    state.mkdir(parents=True, exist_ok=True)
    state.chmod(0o700)
    fresh = make_authority(state / "authority")
    named = json.dumps(list(hosts))
    fresh_hosts = not (state / "hosts").is_file() or (state / "hosts").read_text("ascii") != named
    make_certificate(state / "broker", "broker", hosts, state / "authority", anew=fresh or fresh_hosts)
    make_certificate(state / "leaf", "leaf", ["leaf"], state / "authority", anew=fresh)
    write(state / "hosts", named)
    passwords = _kept(state / "passwords.json", users(tenants), lambda: secrets.token_urlsafe(32))
    tokens = _kept(state / "tokens.json", tenants, new_token)
    made = {
        "ca": {"ca.crt": (state / "authority" / "ca.pem").read_text("ascii")},
        "broker-tls": _certificate(state / "broker"),
        "leaf-tls": _certificate(state / "leaf"),
        "broker-users": {user: passwords[user] for user in users(tenants)},
        "worker": {"creds": f"worker:{passwords['worker']}\n"},
    }
    for tenant in tenants:
        made[f"leaf-{tenant}"] = {"password": passwords[f"{tenant}-leaf"]}
        made[f"edge-{tenant}"] = {"creds": f"{tenant}-edge:{passwords[f'{tenant}-edge']}\n"}
        made[f"gateway-{tenant}"] = {
            "creds": f"{tenant}-gateway:{passwords[f'{tenant}-gateway']}\n",
            "tokens.toml": entry(tokens[tenant], Account(tenant, "helm")),
        }
    return made


def manifest(name: str, namespace: str, release: str, files: Mapping[str, str]) -> dict[str, object]:
    labels = {"app.kubernetes.io/name": "splitmesh", "app.kubernetes.io/instance": release}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "type": "Opaque",
        "data": {file: base64.b64encode(text.encode()).decode("ascii") for file, text in files.items()},
    }


def _certificate(folder: Path) -> dict[str, str]:
    files = {"tls.crt": "cert.pem", "tls.key": "key.pem", "ca.crt": "ca.pem"}
    return {key: (folder / file).read_text("ascii") for key, file in files.items()}


def _kept(file: Path, names: Sequence[str], draw: Callable[[], str]) -> dict[str, str]:
    """Name → secret; those that are missing are drawn."""
    known: dict[str, str] = json.loads(file.read_text("ascii")) if file.is_file() else {}
    known |= {name: draw() for name in names if name not in known}
    write(file, json.dumps(known, indent=1) + "\n", mode=0o600)
    return known


if __name__ == "__main__":
    raise SystemExit(main())
