"""A real headless Chromium for tests, steered by way of `browser.mjs`; and what is missing for one."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CHROMIUM = shutil.which("chromium") or ""
NODE = shutil.which("node") or ""
MISSING = [
    name
    for name, there in (("chromium", CHROMIUM), ("node", NODE), ("npm packages", (HERE / "node_modules").is_dir()))
    if not there
]
_ANSWER_S = 90.0
_LINE_BYTES = 1 << 20


class BrowserError(AssertionError):
    """What the browser was asked could not be done."""


class Browser:
    """One window at a time. Every method waits until the browser has done it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def call(self, call: str, **given: Any) -> Any:
        """Raises BrowserError with the browser's words."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"call": call} | given).encode() + b"\n")
        return await self.answer()

    async def answer(self) -> Any:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), _ANSWER_S)
        if not line:
            raise BrowserError("the browser ended")
        said = json.loads(line)
        if "error" in said:
            raise BrowserError(said["error"])
        return said["result"]

    async def open(self, url: str, *, width: int = 1280, scheme: str = "light", for_axe: bool = False) -> None:
        height = 844 if width < 600 else 900
        await self.call("open", url=url, width=width, height=height, scheme=scheme, bypassCSP=for_axe)

    async def text(self, of: str) -> str:
        return str(await self.call("text", of=of))

    async def see(self, on: str, seconds: float = 15.0) -> None:
        await self.call("see", on=on, timeout_ms=round(seconds * 1e3))

    async def until(self, script: str, seconds: float = 15.0) -> None:
        """Wait until the JavaScript expression is true."""
        await self.call("until", script=script, timeout_ms=round(seconds * 1e3))


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        NODE, "browser.mjs", CHROMIUM, cwd=HERE, stdin=pipe, stdout=pipe, limit=_LINE_BYTES
    )
    try:
        browser = Browser(process)
        assert await browser.answer() == "ready"
        yield browser
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()
