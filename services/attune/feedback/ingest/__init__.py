"""Ingest: accepts feedback and acknowledges what the event log has for good."""
