"""A stamp changes with the file."""

from __future__ import annotations

import os
from pathlib import Path

from attune.platform.access.files import stamp


def test_a_stamp_stays_while_the_file_does(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    assert stamp(file) == stamp(file)


def test_a_stamp_changes_when_the_file_does(tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_text("one")
    seen = [stamp(file)]
    file.write_text("longer")
    seen.append(stamp(file))
    other.write_text("others")
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)
    seen.append(stamp(file))
    file.unlink()
    seen.append(stamp(file))
    assert len(set(seen)) == 4


def test_a_link_counts_as_what_it_leads_to(tmp_path: Path) -> None:
    """So a secret of Kubernetes is renewed."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tls.crt").write_text(name)
    link, file = tmp_path / "data", tmp_path / "data" / "tls.crt"
    link.symlink_to("old")
    before = stamp(file)
    link.unlink()
    link.symlink_to("new")
    assert stamp(file) != before
