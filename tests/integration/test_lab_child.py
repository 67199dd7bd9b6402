"""Real processes: readiness, logs, ends, and that nothing outlives the lab."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from splitmesh.lab.child import Child, ChildError
from splitmesh.lab.status import StatusPoll, fetch_status

SAY = "import sys\nfrom pathlib import Path\nfrom splitmesh.settings.process import announce_ready\n" \
      "def say(**facts): announce_ready(Path(sys.argv[1]), **facts)\n"  # fmt: skip


def python(code: str, tmp_path: Path, **more) -> Child:
    ready = tmp_path / "ready.json"
    command = [sys.executable, "-c", SAY + code, str(ready)]
    return Child("probe", command, log_path=tmp_path / "logs" / "probe.log", ready_file=ready, **more)


def wait_gone(pid: int) -> None:
    """Until the process has ended (a zombie that nobody waits for has ended). Raises psutil.TimeoutExpired."""
    try:
        psutil.Process(pid).wait(timeout=10)
    except psutil.NoSuchProcess:
        return


async def test_a_child_is_ready_when_it_says_so_and_stops_when_asked(tmp_path: Path):
    child = python("import time; print('starting', flush=True); say(port=4); time.sleep(60)", tmp_path)
    await child.start()
    assert (await child.wait_ready(20.0))["port"] == 4
    assert child.running and "starting" in child.log_tail()
    assert await child.stop() == -signal.SIGTERM
    assert child.ending() == "SIGTERM" and not child.died
    assert await child.stop() == -signal.SIGTERM


async def test_a_ready_file_of_an_earlier_run_does_not_count(tmp_path: Path):
    (tmp_path / "ready.json").write_text('{"web_port": 1}')
    child = python("import time; time.sleep(.2); say(web_port=2); time.sleep(60)", tmp_path)
    await child.start()
    try:
        assert (await child.wait_ready(20.0))["web_port"] == 2
    finally:
        await child.stop()


async def test_a_child_that_dies_before_it_is_ready_is_reported_with_its_last_words(tmp_path: Path):
    child = python("import sys; print('no such model', file=sys.stderr); sys.exit(3)", tmp_path)
    await child.start()
    with pytest.raises(ChildError) as failure:
        await child.wait_ready(20.0)
    assert "exit status 3" in str(failure.value) and failure.value.log_tail == "no such model"
    assert child.died


async def test_a_silent_child_is_reported_as_not_ready(tmp_path: Path):
    child = python("import time; time.sleep(60)", tmp_path)
    await child.start()
    try:
        with pytest.raises(ChildError, match=r"not ready within 0\.3 s"):
            await child.wait_ready(0.3)
    finally:
        await child.kill()
    assert child.ending() == "SIGKILL"


async def test_grandchildren_go_with_the_child(tmp_path: Path):
    code = (
        "import subprocess,time; p=subprocess.Popen([sys.executable,'-c','import time; time.sleep(60)']);"
        "say(pid=p.pid); time.sleep(60)"
    )
    child = python(code, tmp_path)
    await child.start()
    grandchild = (await child.wait_ready(20.0))["pid"]
    await child.kill()
    await asyncio.to_thread(wait_gone, grandchild)


@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are Linux only")
async def test_a_child_dies_with_a_lab_that_is_killed(tmp_path: Path):
    lab = (
        "import asyncio,sys\nfrom pathlib import Path\nfrom splitmesh.lab.child import Child\n"
        "async def main():\n"
        " log=Path(sys.argv[1])\n"
        " sleep=[sys.executable,'-c','import time; time.sleep(60)']\n"
        " c=Child('c',sleep,log_path=log,ready_file=log.with_suffix('.r'))\n"
        " await c.start(); print(c.pid, flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", lab, str(tmp_path / "c.log"), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    pid = int(await process.stdout.readline())
    process.kill()
    await process.wait()
    await asyncio.to_thread(wait_gone, pid)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no core affinity on this system")
async def test_a_child_keeps_to_its_cores(tmp_path: Path):
    core = min(os.sched_getaffinity(0))
    code = "import os; say(cores=sorted(os.sched_getaffinity(0)))"
    child = python(code, tmp_path, cores=(core,))
    await child.start()
    assert (await child.wait_ready(20.0))["cores"] == [core]
    assert await child.wait() == 0


async def test_a_process_without_status_pages_has_an_empty_status():
    assert fetch_status(1) == {}
    poll = StatusPoll(1)
    poll.refresh()
    await poll.close()
    assert poll.latest == {} == poll.last_known
