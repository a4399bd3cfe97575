"""How many feedback events the join takes a core-second, and what it costs as its database grows.

    python tests/benchmarks/join.py --millions 1,3,10

The parent writes the log, part by part, and a process of its own runs the real consumer over it until everything is
read; only that process is measured (getrusage). A figure at N million is that of the last parts before the mark.
"""

from __future__ import annotations

PART = 100_000
