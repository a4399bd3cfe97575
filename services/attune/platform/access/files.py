"""Whether a file was renewed, without reading it."""

from __future__ import annotations

from pathlib import Path


def stamp(*files: Path) -> tuple[tuple[int, int, int], ...]:
    """Changes when one of the files, or what a link leads to, is written, replaced or gone: times in nanoseconds."""
    return tuple(map(_stamp, files))


def _stamp(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_ino, found.st_size)
