"""Plain grpc.aio: one of two processes, work on a thread beside the loop. `python grpc_server.py PORT`."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
from bench.peers.work import make_work, packed


async def main() -> None:
    work, pool = make_work(), ThreadPoolExecutor(1)

    async def serve(body: bytes, _context: Any) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(pool, lambda: packed(work(body)))

    server = grpc.aio.server()
    handlers = {"Serve": grpc.unary_unary_rpc_method_handler(serve)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Work", handlers),))
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    await server.start()
    await server.wait_for_termination()


asyncio.run(main())
