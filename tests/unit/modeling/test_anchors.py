"""Anchors: written once, read unchanged, refused when they cannot normalise anything."""

import pytest
from attune.domain.errors import CheckpointRefused
from attune.modeling.anchors import FILE, read_anchors, write_anchors

ANCHORS = [([{"role": "user", "content": "ünïcode?"}], "yes"), ("bare text", "no")]


def test_anchors_come_back_as_written(tmp_path):
    write_anchors(tmp_path, ANCHORS)
    assert read_anchors(tmp_path) == ANCHORS


@pytest.mark.parametrize("content", [None, "", "{", "[]", '[{"prompt": "a"}]', '[{"prompt": "a", "completion": "b"}]'])
def test_missing_torn_or_too_few_are_refused(tmp_path, content):
    if content is not None:
        (tmp_path / FILE).write_text(content)
    with pytest.raises(CheckpointRefused):
        read_anchors(tmp_path)
