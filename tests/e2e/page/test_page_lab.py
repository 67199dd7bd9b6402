"""The page's lab controls and its table of frames in a real Chromium; edges follow a script, the broker is real."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from chromium import MISSING, Browser, chromium

sys.path.append(str(Path(__file__).parents[2] / "integration"))
from page_rig import RecordingLab, ScriptedEdge, ScriptedWorker, Served, served_page

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)}; see tests/e2e/README.md"),
    pytest.mark.slow,
]
TOLD = "+document.querySelector('.plot canvas').ariaLabel.match(/(\\d+) frames/)[1]"
NEWEST = "+document.querySelector('.frames tbody button').innerText"


@pytest.fixture
def lab() -> RecordingLab:
    return RecordingLab()


@pytest.fixture
async def page(tmp_path: Path, lab: RecordingLab) -> AsyncIterator[Served]:
    async with served_page(tmp_path, lab=lab) as served:
        parts = ScriptedWorker(served.bus, "w-1"), ScriptedEdge(served.bus, "cam")
        for part in parts:
            await part.start()
        yield served
        for part in parts:
            await part.stop()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running
        assert await running.call("troubles") == []


async def test_the_labs_buttons_do_what_they_say(page: Served, lab: RecordingLab, browser: Browser) -> None:
    await browser.open(page.url, for_axe=True)
    await browser.until("document.querySelector('#lab-worker')?.value === 'w-1'")
    await browser.until("document.querySelector('#lab-edge').value === 'cam'")
    assert await browser.call("axe") == []
    await browser.call("fill", on="#lab-factor", text="0.25")
    for button, says in (
        ("Bend the link", "the link is bent"),
        ("Kill", "w-1 is killed"),
        ("Restart", "w-1 starts"),
        ("Slow down", "cam is slower"),
        ("Full speed", "cam is as fast as it is"),
    ):
        await browser.call("click", on=f".lab button:text-is('{button}')")
        await browser.until(f"document.querySelector('.lab-card .says').innerText === '{says}'")
    assert lab.done == [
        ("bend", 0.25, 10),
        ("kill", "w-1"),
        ("restart", "w-1"),
        ("slow", "cam", 5),
        ("slow", "cam", 1),
    ]


async def test_the_table_of_frames_stands_still_when_it_is_told_to(page: Served, browser: Browser) -> None:
    await browser.open(f"{page.url}/#/edge/cam")
    await browser.see(".frames tbody tr")
    await browser.call("click", on="button:text-is('Pause')")
    held = await browser.call("run", script=NEWEST)
    seen = await browser.call("run", script=TOLD)
    await browser.until(f"{TOLD} >= {seen} + 10")
    assert await browser.call("run", script=NEWEST) == held, "while the timeline went on"
    await browser.call("click", on="button:text-is('Pause')")
    await browser.until(f"{NEWEST} > {held} + 10")
    await browser.call("click", on="#only-misses")
    await browser.until(
        "[...document.querySelectorAll('.frames tbody tr')].every((row) => row.querySelector('.miss'))"
    )
    assert await browser.call("count", of=".frames tbody tr") > 0


async def test_what_if_shows_a_change_and_an_edges_refusal(page: Served, browser: Browser) -> None:
    await browser.open(f"{page.url}/#/edge/cam")
    await browser.until("document.querySelector('#what-if-deadline')?.value === '150'")
    await browser.call("fill", on="#what-if-deadline", text="40")
    await browser.until("document.querySelector('.verdict .changed .point')?.innerText === 'TRACK'")
    await browser.call("fill", on="#what-if-deadline", text="0")
    await browser.until("document.querySelector('.what-if .says.bad')?.innerText.includes('1 to 60 000')")
    assert await browser.call("run", script="document.querySelector('.what-if .primary').disabled")
    await browser.call("click", on="button:text-is('Reset')")
    await browser.until("document.querySelector('#what-if-deadline').value === '150'")
