"""Named places where a test may stop a process dead, as a power cut would.

`SCHEMASEAL_CRASH_AT=name[:n]` ends the process (no clean-up) the n-th time it gets there (default 1). The
file named by `SCHEMASEAL_CRASH_ONCE` is created first, and while it exists nothing is stopped again, so
that the restarted process goes on. Unset, a crash point costs one dictionary look-up.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

_WANTED, _, _COUNT = os.environ.get("SCHEMASEAL_CRASH_AT", "").partition(":")
_ONCE = os.environ.get("SCHEMASEAL_CRASH_ONCE", "")
_seen = {_WANTED: 0}


def crash_point(name: str) -> None:
    """End this process here with SIGKILL if a test asked for it."""
    if not _WANTED or name != _WANTED:
        return
    _seen[name] += 1
    if _seen[name] < int(_COUNT or "1"):
        return
    if _ONCE:
        path = Path(_ONCE)
        if path.exists():
            return
        path.write_text(name, "utf-8")
    os.kill(os.getpid(), signal.SIGKILL)
