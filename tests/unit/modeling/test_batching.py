import pytest
from attune.modeling.batching import last_real_index, length_buckets, pad, position_ids
from hypothesis import given
from hypothesis import strategies as st

SEQUENCES = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=9), min_size=1, max_size=6)


@pytest.mark.parametrize("side", ["left", "right"])
@given(sequences=SEQUENCES)
def test_padding_keeps_every_sequence(side: str, sequences: list[list[int]]) -> None:
    batch = pad(sequences, pad_id=0, side=side)
    kept = [ids[mask.bool()].tolist() for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)]
    assert kept == sequences
    assert batch.lengths.tolist() == [len(sequence) for sequence in sequences]
    assert batch.input_ids.shape[1] == max(map(len, sequences))
    last = batch.input_ids[range(len(sequences)), last_real_index(batch.attention_mask)]
    assert last.tolist() == [sequence[-1] for sequence in sequences]


def test_positions_count_from_the_first_real_token() -> None:
    left, right = pad([[7, 8], [1, 2, 3]], 0, "left"), pad([[7, 8], [1, 2, 3]], 0, "right")
    assert position_ids(left.attention_mask).tolist() == [[0, 0, 1], [0, 1, 2]]
    assert right.position_ids.tolist() == [[0, 1, 1], [0, 1, 2]]


@pytest.mark.parametrize("sequences", [[], [[1], []]])
def test_nothing_to_pad_is_refused(sequences: list) -> None:
    with pytest.raises(ValueError, match="at least one"):
        pad(sequences, 0)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 8), st.integers(1, 200))
def test_buckets_hold_every_index_once_within_their_bounds(lengths: list[int], size: int, tokens: int) -> None:
    groups = length_buckets(lengths, size, tokens)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) <= size
        assert len(group) == 1 or max(lengths[i] for i in group) * len(group) <= tokens


def test_buckets_may_limit_their_padding() -> None:
    assert length_buckets([9, 8, 8, 4, 3], 5, max_padding=2) == [[0, 1, 2], [3, 4]]
    assert length_buckets([9, 8, 8, 4, 3], 5, max_padding=0) == [[0], [1, 2], [3], [4]]


def test_buckets_are_longest_first() -> None:
    assert length_buckets([3, 9, 4, 8], 2) == [[1, 3], [2, 0]]
