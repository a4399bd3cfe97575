"""Attune: online reinforcement learning from human feedback, as services."""
