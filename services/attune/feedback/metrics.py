"""The one metric that ingest and the join share: whoever finds a conflict counts it."""

from __future__ import annotations

from prometheus_client import Counter

CONFLICTS = Counter(
    "attune_feedback_conflicts_total", "Event ids used again for another body, by where seen.", ["where"]
)
