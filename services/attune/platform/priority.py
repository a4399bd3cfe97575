"""Whose turn it is on the cores: a thread that may wait can stand behind those that may not (Linux).

The kernel keeps a priority for each thread; a thread inherits that of the one which starts it, and cannot raise it
again without being root. Elsewhere nothing happens.
"""

from __future__ import annotations

import os
import sys
import threading

LOWEST = 19


def stand_behind(nice: int) -> None:
    """Lowers the priority of the calling thread, and of those that it starts from now on, by so many steps."""
    if nice and sys.platform == "linux":
        lower = min(LOWEST, os.getpriority(os.PRIO_PROCESS, 0) + nice)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), lower)
