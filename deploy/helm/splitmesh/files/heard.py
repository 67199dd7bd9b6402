"""Owns the chart's own test: logs in as the tenant's gateway does, and hears a worker's heartbeat within a minute."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from splitmesh.bus.base import Message
from splitmesh.bus.nats import connect_nats
from splitmesh.bus.security import Security
from splitmesh.wire import subjects

_PATIENCE_S = 60.0


async def main() -> int:
    ca = os.environ.get("SPLITMESH_NATS_CA")
    security = Security(ca=Path(ca) if ca else None, creds=Path(os.environ["SPLITMESH_NATS_CREDS"]))
    heard = asyncio.Event()

    async def hear(message: Message) -> None:
        heard.set()

    bus = await connect_nats(
        os.environ["SPLITMESH_NATS_URL"], name="chart-test", security=security, give_up_s=_PATIENCE_S
    )
    try:
        await bus.subscribe(subjects.load(os.environ["TENANT"]), hear)
        async with asyncio.timeout(_PATIENCE_S):
            await heard.wait()
    except TimeoutError:
        sys.stderr.write(f"connected, and no worker was heard within {_PATIENCE_S:g} s\n")
        return 1
    finally:
        await bus.drain()
    sys.stdout.write("connected, and a worker was heard\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
