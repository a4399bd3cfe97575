"""Feedback: two processes, ingest and join, that meet only over the event log."""
