"""Owns `splitmesh gateway`: the command that runs the front door, and the making of tokens for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from splitmesh.cli.run import service_command
from splitmesh.errors import OutputError
from splitmesh.settings.model import GatewaySettings


def _start(settings: GatewaySettings) -> int:
    from splitmesh.gateway.command import run

    return run(settings)


_run = service_command(
    GatewaySettings,
    _start,
    """Open the front door: gRPC for programs, a page for people. `splitmesh gateway token` makes tokens.

    \b
    Examples:
      splitmesh gateway --nats-url nats://broker:4222
      splitmesh gateway --tokens tokens.toml --grpc-host 0.0.0.0 --tls-cert gw.pem --tls-key gw.key
    """,
)


@click.group(invoke_without_command=True, params=_run.params, help=_run.help)
@click.pass_context
def gateway(context: click.Context, /, **values: Any) -> int:
    if context.invoked_subcommand is not None or _run.callback is None:
        return 0
    status: int = _run.callback(**values)
    return status


@gateway.command()
@click.argument("tenant")
@click.option("--name", default="", help="Who the token is for, as audits will show; default: the tenant's name.")
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of tokens to add it to; made if absent. Without it, what belongs there is printed.",
)
def token(tenant: str, name: str, file: Path | None) -> int:
    """Make a token for TENANT and show it, this once: files hold only its hash.

    \b
    Example:
      splitmesh gateway token acme --name phone-app --file tokens.toml
    """
    from splitmesh.gateway.tokens import Account, entry, new_token

    made = new_token()
    text = entry(made, Account(tenant, name or tenant))
    if file is None:
        click.echo(text, err=True)
    else:
        _append(file, text)
    click.echo(made)
    return 0


def _append(file: Path, text: str) -> None:
    try:
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        draft = file.with_name(f".{file.name}.new")
        draft.write_text(f"{before}\n{text}" if before else text, encoding="utf-8")
        draft.chmod(0o600)
        draft.replace(file)
    except OSError as exc:
        raise OutputError(f"can't write {file}: {exc.strerror or exc}", path=str(file)) from exc
