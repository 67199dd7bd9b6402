"""Servers of known latency in processes of their own, and `meshload` as a user starts it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


@contextmanager
def server(kind: str, *arguments: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """(port, process) of a server of `bench.meshload_servers`."""
    command = [sys.executable, "-m", "bench.meshload_servers", kind, *arguments]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin and child.stdout
        try:
            yield json.loads(child.stdout.readline())["port"], child
        finally:
            child.stdin.close()
            child.wait(10)


def meshload(*arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "meshload.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=os.environ | {"NO_COLOR": "1"},
    )


async def finished(*words: str) -> tuple[int, str, str]:
    """(exit status, output, complaints) of one command line."""
    load = await started(*words)
    out, err = await load.communicate()
    return load.returncode or 0, out.decode(), err.decode()


async def started(*words: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "meshload.cli.main", *words]
    environment = os.environ | {"NO_COLOR": "1"}
    return await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env=environment)
