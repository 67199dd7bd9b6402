"""`splitmesh lab` with its page in a real Chromium: what happens is seen, asked about and done from the browser."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from chromium import MISSING, Browser, chromium

from splitmesh.lab.child import Child
from splitmesh.lab.records import read_jsonl
from splitmesh.lab.setup import EDGE, WORKER
from splitmesh.provision.link.presets import load_link

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)}; see tests/e2e/README.md"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

IMAGES = str(Path(images).resolve()) if (images := os.environ.get("PAGE_IMAGES")) else ""
"""Folder to leave screenshots in, as docs/images has them."""
STARTED_S = 90.0
LINK, DURATION_S = "lte", 600.0
ROWS = "document.querySelectorAll('.frames tbody tr')"
OFFLOADED = f"[...{ROWS}].find((row) => /^(split|frame)$/.test(row.cells[1].innerText))"
PLACES = f"new Set([...{ROWS}].map((row) => row.cells[1].innerText))"
WORKER_ROW = f"[...document.querySelectorAll('tbody tr')].find((row) => row.cells[0].innerText === '{WORKER}')"
SAYS = "document.querySelector('.lab-card .says').innerText"


@dataclass(slots=True)
class Lab:
    """A running lab. `url`: where it says that its page is."""

    out: Path
    process: Child
    url: str

    def bent_seconds(self, factor: float) -> int:
        """In how many seconds so far the link carried about `factor` of its trace."""
        trace = load_link(LINK, duration_s=DURATION_S)
        shares = [
            row["up"]["asked_bytes"] / trace.capacity_bytes(row["t_s"] - 1, row["t_s"])
            for row in read_jsonl(self.out / "link.jsonl")
        ]
        return sum(0.5 * factor < share < 2 * factor for share in shares)

    async def end(self) -> dict[str, Any]:
        """Interrupt it as a user does; its summary."""
        self.process.send(signal.SIGINT)
        async with asyncio.timeout(120):
            assert await self.process.wait() == 0, self.process.log_tail()
        summary: dict[str, Any] = json.loads((self.out / "summary.json").read_text())
        return summary


@asynccontextmanager
async def running_lab(folder: Path, clip: Path) -> AsyncIterator[Lab]:
    out = folder / "run"
    command = [
        sys.executable, "-m", "splitmesh.cli.main", "lab", "--config", os.devnull, "--source", str(clip),
        "--out", str(out), "--duration", f"{DURATION_S:g}s", "--link", LINK, "--deadline", "250ms", "--no-video",
    ]  # fmt: skip
    ready = out / "processes" / "gateway.ready.json"
    process = Child("lab", command, log_path=folder / "lab.log", ready_file=ready)
    await process.start()
    try:
        url = f"http://127.0.0.1:{(await process.wait_ready(STARTED_S))['web_port']}/"
        async with asyncio.timeout(STARTED_S):
            while f"page: {url}" not in process.log_tail(100):  # noqa: ASYNC110 - a file has no event to wait for
                await asyncio.sleep(0.05)
        yield Lab(out, process, url)
    finally:
        await process.stop(grace_s=0.0, first=signal.SIGKILL)


@pytest.fixture
async def lab(tmp_path: Path, shared: Path) -> AsyncIterator[Lab]:
    async with running_lab(tmp_path, shared / "media" / "vtest.avi") as running:
        yield running


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running
        assert await running.call("troubles") == []


async def picture(browser: Browser, name: str, *, full: bool = True) -> None:
    if IMAGES:
        await browser.call("run", script="scrollTo(0, 0)")  # or the head would stand in the middle of the picture
        await browser.call("screenshot", path=f"{IMAGES}/lab-{name}.png", full=full)


async def push(browser: Browser, button: str, says: str) -> None:
    """One of the lab's own buttons, by its words; what the page says then is `says`."""
    await browser.call("run", script="document.querySelector('.lab-card .says').innerText = ''")
    buttons = "[...document.querySelectorAll('.lab-card button')]"
    await browser.call("run", script=f"{buttons}.find((each) => each.innerText === '{button}').click()")
    await browser.until(f"!['', '…'].includes({SAYS})")
    assert await browser.call("run", script=SAYS) == says


async def test_a_lab_is_watched_asked_and_struck_from_its_page(lab: Lab, browser: Browser) -> None:
    await browser.open(f"{lab.url}#/edge/{EDGE}")
    await _decisions_move_and_one_is_told_with_the_spans_of_both_processes(browser)
    await _what_if_changes_a_decision(browser)
    await _the_link_is_bent_and_the_edge_slowed(lab, browser)
    await browser.open(lab.url)
    await _a_killed_worker_is_red_within_two_seconds_and_comes_back(browser)
    assert await browser.call("troubles") == []
    await browser.open("about:blank")
    summary = await lab.end()
    assert summary["conserved"] is True and summary["incidents"] == []
    struck = [(strike["what"], strike["target"], strike["factor"]) for strike in summary["strikes"]]
    assert struck == [
        ("bend-link", "", 0.05), ("slow-edge", EDGE, 8.0), ("slow-edge", EDGE, 1.0),
        ("kill-worker", WORKER, None), ("restart-worker", WORKER, None),
    ]  # fmt: skip


async def _decisions_move_and_one_is_told_with_the_spans_of_both_processes(browser: Browser) -> None:
    await browser.see(".frames tbody tr", 30)
    await browser.until("document.querySelector('.preview p').hidden", 30)
    newest = int(await browser.text(".frames tbody tr button"))
    await browser.until(f"+{ROWS}[0].cells[0].innerText > {newest + (250 if IMAGES else 20)}", 60)
    await browser.until(f"{PLACES}.size > 1", 60)
    await picture(browser, "decisions")
    await browser.until(f"!!{OFFLOADED}", 60)
    await browser.call("run", script=f"{OFFLOADED}.cells[0].firstChild.click()")
    await browser.see(".waterfall li[data-service=cloud]")
    spans = "[...document.querySelectorAll('.waterfall li')].map((row) => row.dataset.service)"
    services = await browser.call("run", script=spans)
    assert services.count("edge") >= 5 and services.count("cloud") >= 3
    await picture(browser, "waterfall", full=False)
    await browser.call("press", keys="Escape")
    await browser.until("!document.querySelector('dialog[open]')")


async def _what_if_changes_a_decision(browser: Browser) -> None:
    await browser.call("select", on="#what-if-policy", value="track")
    await browser.until("document.querySelectorAll('.verdict .point')[1].innerText === 'TRACK'")
    await browser.until("document.querySelector('.verdict .point').innerText !== 'TRACK'")
    await picture(browser, "what-if")
    await browser.call("select", on="#what-if-policy", value="adaptive")


async def _the_link_is_bent_and_the_edge_slowed(lab: Lab, browser: Browser) -> None:
    await browser.call("fill", on="#lab-factor", text="0.05")
    await browser.call("fill", on="#lab-seconds", text="10")
    await push(browser, "Bend the link", "the link is bent")
    async with asyncio.timeout(20):
        while lab.bent_seconds(0.05) < 4:  # noqa: ASYNC110 - a file has no event to wait for
            await asyncio.sleep(0.1)
    await picture(browser, "link-bent")
    await browser.call("fill", on="#lab-slowdown", text="8")
    await push(browser, "Slow down", f"{EDGE} is slower")
    await push(browser, "Full speed", f"{EDGE} is as fast as it is")


async def _a_killed_worker_is_red_within_two_seconds_and_comes_back(browser: Browser) -> None:
    health = f"{WORKER_ROW}?.querySelector('.health').className"
    await browser.until(f"{health} === 'health alive'", 20)
    await browser.until(f"document.querySelector('#lab-worker').value === '{WORKER}'")
    killed_s = time.monotonic()
    await push(browser, "Kill", f"{WORKER} is killed")
    await browser.until(f"{health} === 'health gone'", 2.0)
    assert time.monotonic() - killed_s < 2.0
    await browser.until("document.querySelector('.events .bad')?.innerText.includes('is gone')")
    await picture(browser, "worker-killed")
    await push(browser, "Restart", f"{WORKER} starts")
    await browser.until(f"{health} === 'health alive'", 60)
    await picture(browser, "worker-back")
