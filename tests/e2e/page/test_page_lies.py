"""The page in a real Chromium, before an edge that lies: its words are shown as words, and within their places."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from chromium import MISSING, Browser, chromium

sys.path.append(str(Path(__file__).parents[2] / "integration"))
from page_rig import RecordingLab, ScriptedEdge, ScriptedWorker, served_page

from splitmesh.v1 import control_pb2 as pb

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)}; see tests/e2e/README.md"),
    pytest.mark.slow,
]

SCRIPT = '"><img src=x onerror="window.taken=1"><script>window.taken=1</script>'
OURS = (
    "document.querySelectorAll('img[onerror], script:not([src]), iframe').length === 0 && window.taken === undefined"
)
WITHIN = "document.documentElement.scrollWidth <= innerWidth"


class LyingEdge(ScriptedEdge):
    """Says HTML wherever text may stand."""

    def report(self) -> pb.EdgeReport:
        said = super().report()
        said.version = said.model = said.policy = said.breaker = said.source = SCRIPT
        said.decisions_5s.clear()
        said.decisions_5s[SCRIPT] = 2**31 - 1
        return said

    def _frame(self) -> pb.FrameReport:
        frame = super()._frame()
        frame.outcome = frame.reason = frame.note = frame.worker_id = SCRIPT
        frame.chosen.point = f"split/{SCRIPT}"
        frame.captured_ms = -1e12
        return frame


@pytest.mark.parametrize("width", [1280, 390])
async def test_what_an_edge_says_is_never_markup_and_moves_nothing(tmp_path: Path, width: int) -> None:
    async with served_page(tmp_path, lab=RecordingLab()) as page, chromium() as browser:
        parts = [ScriptedWorker(page.bus, "w-1"), ScriptedEdge(page.bus, "honest"), LyingEdge(page.bus, "liar")]
        for part in parts:
            await part.start()
        try:
            await browser.open(page.url, width=width)
            await browser.see("text=liar")
            await shows_words(browser, "body")
            await browser.open(f"{page.url}/#/edge/liar", width=width)
            await browser.see(".frames tbody tr")
            await shows_words(browser, ".frames")
            assert await browser.call("run", script="document.querySelector('#lab-edge').value") == "liar"
            await browser.call("click", on=".frames tbody tr button")
            await browser.see("dialog[open] h3")
            await shows_words(browser, "dialog[open]")
            assert await browser.call("troubles") == []
        finally:
            for part in parts:
                await part.stop()


async def shows_words(browser: Browser, where: str) -> None:
    await browser.until(f"document.querySelector('{where}').innerText.includes('<img src=x')")
    assert await browser.call("run", script=OURS)
    assert await browser.call("run", script=WITHIN)
