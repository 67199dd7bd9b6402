"""The suite's own alarm works: a leaked task or thread fails the test that leaked it."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

CONFIG = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
"""


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (
            "import asyncio\n"
            "async def test_it():\n"
            "    globals()['kept'] = asyncio.create_task(asyncio.Event().wait(), name='forgotten')\n",
            "*leaked tasks:*",
        ),
        (
            "import threading\n"
            "stop = threading.Event()\n"
            "def test_it():\n"
            "    threading.Thread(target=stop.wait, args=(2,), name='forgotten').start()\n",
            "*leaked threads: forgotten*",
        ),
    ],
    ids=["task", "thread"],
)
def test_a_leak_fails_the_test(pytester: pytest.Pytester, request: pytest.FixtureRequest, body: str, complaint: str):
    conftest = (
        (request.config.rootpath / "tests" / "conftest.py").read_text().replace("GRACE_S = 5.0", "GRACE_S = 0.1")
    )
    pytester.makeini(CONFIG)
    pytester.makeconftest(conftest)
    pytester.makepyfile(body)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([complaint])


def test_what_ends_in_time_is_no_leak(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> None:
    pytester.makeini(CONFIG)
    pytester.makeconftest((request.config.rootpath / "tests" / "conftest.py").read_text())
    pytester.makepyfile(
        "import asyncio, threading\n"
        "async def test_task():\n"
        "    globals()['kept'] = asyncio.create_task(asyncio.sleep(0.05))\n"
        "async def test_executor():\n"
        "    await asyncio.to_thread(int)\n"
        "def test_thread():\n"
        "    stop = threading.Event()\n"
        "    threading.Thread(target=stop.wait, args=(0.05,)).start()\n"
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=3)
