"""The vocabulary every part of Attune shares: frozen dataclasses and errors, and nothing that does I/O."""
