"""Becomes a child process: dies with its parent, keeps to its cores, then turns into the command. Refuses to linger.

`python -m splitmesh.process.leash PARENT_PID CORES NICENESS COMMAND…` (CORES: "0,2", or "-" for any). Runs in the
child, after the fork, so that the parent needs no code between fork and exec (unsafe with threads).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def leash_command(command: list[str], *, cores: tuple[int, ...] = (), niceness: int = 0) -> list[str]:
    """`command` wrapped so that it runs on `cores` (empty: any) and never outlives the calling process.

    niceness: 0 to 19, by how much it steps back for other processes.
    """
    wanted = ",".join(str(core) for core in cores) or "-"
    return [sys.executable, "-m", "splitmesh.process.leash", str(os.getpid()), wanted, str(niceness), *command]


def _die_with(parent_pid: int) -> None:
    """Ask the kernel for SIGKILL when the parent goes; elsewhere than on Linux the process group has to do."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:  # it died before the call above took effect
        raise SystemExit(1)


def main(arguments: list[str]) -> None:
    parent_pid, cores, niceness, *command = arguments
    _die_with(int(parent_pid))
    if cores != "-" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    os.nice(int(niceness))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
