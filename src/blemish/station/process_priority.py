"""Processes beside the line's inspections run at a lower priority."""

import contextlib
import os
import subprocess

NICE = 10


def lower_priority(process: "subprocess.Popen[str]") -> None:
    if hasattr(os, "setpriority"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
