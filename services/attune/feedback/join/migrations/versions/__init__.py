"""Alembic migrations of the join database, applied when the join starts."""
