"""The cache of growing rows: each writes where it stands, and room that grows keeps what is there."""

from __future__ import annotations

import torch
from attune.policy.blocks import Blocks
from torch import Tensor

HEADS, WIDTH = 2, 3


def prompts(count: int, length: int, start: float = 1.0) -> list[tuple[Tensor, Tensor]]:
    """Keys that count up and values of opposite sign, for each of two layers."""
    keys = torch.arange(start, start + count * HEADS * length * WIDTH).view(count, HEADS, length, WIDTH)
    return [(keys, -keys), (keys + 0.5, -keys - 0.5)]


def test_prompts_go_to_the_rows_of_their_completions() -> None:
    blocks, layers = Blocks(2), prompts(2, 4)
    blocks.copy_in(layers, torch.tensor([1, 0, 1]), 0)
    for block, (keys, values) in zip(blocks.blocks, layers, strict=True):
        assert torch.equal(block.content[0][:3, :, :4], keys[[1, 0, 1]])
        assert torch.equal(block.content[1][:3, :, :4], values[[1, 0, 1]])


def test_each_row_writes_at_its_own_position_and_sees_the_width() -> None:
    blocks = Blocks(1)
    blocks.copy_in(prompts(3, 5)[:1], torch.arange(3), 0)
    new_keys, new_values = torch.randn(3, HEADS, 1, WIDTH), torch.randn(3, HEADS, 1, WIDTH)
    before = blocks.blocks[0].content[0].clone()
    blocks.write_at(torch.tensor([5, 2, 4]))
    keys, values = blocks.blocks[0].update(new_keys, new_values)
    assert keys.shape == values.shape == (3, HEADS, 6, WIDTH)
    for row, position in enumerate([5, 2, 4]):
        assert torch.equal(keys[row, :, position], new_keys[row, :, 0])
        assert torch.equal(values[row, :, position], new_values[row, :, 0])
        kept = [p for p in range(6) if p != position]
        assert torch.equal(keys[row, :, kept], before[row, :, kept])


def test_growing_room_keeps_what_is_there() -> None:
    blocks, layers = Blocks(2), prompts(2, 4)
    blocks.copy_in(layers, torch.arange(2), 0)
    blocks.copy_in(prompts(40, 30, start=500.0), torch.arange(40), 2)
    blocks.write_at(torch.full((42,), 70))
    for block, (keys, values) in zip(blocks.blocks, layers, strict=True):
        assert block.content[0].shape[2] >= 71
        assert torch.equal(block.content[0][:2, :, :4], keys)
        assert torch.equal(block.content[1][:2, :, :4], values)


def test_a_moved_row_takes_its_tokens_along() -> None:
    blocks, layers = Blocks(2), prompts(3, 4)
    blocks.copy_in(layers, torch.arange(3), 0)
    blocks.move_row(2, 0, 4)
    for block, (keys, _) in zip(blocks.blocks, layers, strict=True):
        assert torch.equal(block.content[0][:3, :, :4], keys[[2, 1, 2]])


def test_arrays_are_the_same_memory() -> None:
    blocks = Blocks(1)
    blocks.copy_in(prompts(1, 4)[:1], torch.arange(1), 0)
    keys, values = blocks.blocks[0].arrays
    keys[0, 1, 2] = 7.0
    assert blocks.blocks[0].content[0][0, 1, 2].tolist() == [7.0] * WIDTH
    assert values[0, 1, 2].tolist() != [7.0] * WIDTH
