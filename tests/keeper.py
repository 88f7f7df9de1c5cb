"""Runs a command until it ends, or its own standard input closes; then kills everything that came of it.

For processes that leave their session or wipe their environment, so that nobody else finds them all: whatever loses
its parent becomes a child of this one. The pipe closes also when the tests are killed, so nothing stays behind. Linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import subprocess
import sys
import time

import psutil

PR_SET_CHILD_SUBREAPER = 36


def some_left() -> bool:
    """Take note of children that have ended; whether others live."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


if __name__ == "__main__":
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    while some_left() and command.poll() is None and not select.select([sys.stdin], [], [], 0.1)[0]:
        pass
    while some_left():
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.01)
