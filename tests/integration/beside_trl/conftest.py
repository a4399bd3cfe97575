"""The trainer beside TRL's, run where TRL is installed (`make test-trl`); elsewhere there is nothing to collect."""

from __future__ import annotations

import os
from importlib.util import find_spec

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
collect_ignore_glob = [] if find_spec("trl") else ["test_*.py"]
