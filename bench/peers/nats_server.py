"""Plain nats-py: one of two members of a queue group, work on a thread. `python nats_server.py BROKER_PORT`."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import nats
from bench.peers.work import make_work, packed
from nats.aio.msg import Msg


async def main() -> None:
    work, pool = make_work(), ThreadPoolExecutor(1)
    client = await nats.connect(f"nats://127.0.0.1:{sys.argv[1]}")

    async def serve(message: Msg) -> None:
        answer = await asyncio.get_running_loop().run_in_executor(pool, lambda: packed(work(message.data)))
        await message.respond(answer)

    await client.subscribe("bench.work", "workers", serve)
    await asyncio.Event().wait()


asyncio.run(main())
