"""The prompt pool: distinct, bounded, split by hash."""

import random

import pytest
from attune.domain.errors import InvalidInput
from attune.domain.prompts import Message, Prompt
from attune.trainer.prompts import PromptPool, read_prompts


def prompts(n: int) -> list[Prompt]:
    return [Prompt.user(f"question {i}") for i in range(n)]


def test_same_question_in_other_spacing_counts_once_and_never_on_both_sides():
    pool = PromptPool(0.5, 100)
    pool.add([*prompts(40), Prompt.user("Question  3"), Prompt.user(" question 3 ")])
    assert len(pool) == 40
    training, held_out = pool.training(), pool.held_out(100)
    assert {p.hash for p in training}.isdisjoint(p.hash for p in held_out)
    assert len(training) + len(held_out) == 40
    assert training
    assert held_out


def test_pool_is_bounded_and_keeps_the_newest_and_the_file():
    pool = PromptPool(0.0, 5, fixed=[Prompt.user("from a file")])
    pool.add(prompts(20))
    assert [p.messages[0].content for p in pool.training()] == [
        "from a file",
        *(f"question {i}" for i in range(15, 20)),
    ]


def test_replace_forgets_erased_prompts():
    pool = PromptPool(0.0, 10)
    pool.add(prompts(4))
    pool.replace(prompts(4)[1:])
    assert prompts(1)[0].hash not in {p.hash for p in pool.training()}


def test_held_out_set_grows_without_shuffling():
    pool = PromptPool(1.0, 1000)
    pool.add(prompts(10))
    small = pool.held_out(5)
    pool.add(prompts(11))
    assert len(set(small) & set(pool.held_out(5))) >= 4


def test_draw_is_seeded_and_repeats_only_when_it_must():
    pool = PromptPool(0.0, 100)
    with pytest.raises(ValueError, match="no training prompts"):
        pool.draw(1, random.Random(0))
    pool.add(prompts(6))
    assert pool.draw(4, random.Random(1)) == pool.draw(4, random.Random(1))
    assert len(set(pool.draw(6, random.Random(2)))) == 6
    assert len(pool.draw(15, random.Random(3))) == 15


def test_a_file_of_prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        '{"prompt": "hi"}\n\n{"prompt": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]}'
    )
    chat = (Message("system", "be kind"), Message("user", "hi"))
    assert read_prompts(path) == [Prompt.user("hi"), Prompt(messages=chat)]


@pytest.mark.parametrize(
    "line", ["{", '{"text": "x"}', '{"prompt": ""}', '{"prompt": [{"role": "cat", "content": "x"}]}', "3"]
)
def test_a_bad_line_is_named(tmp_path, line):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "fine"}\n' + line)
    with pytest.raises(InvalidInput, match=r"prompts\.jsonl:2"):
        read_prompts(path)


@pytest.mark.parametrize("content", [None, b'{"prompt": "caf\xe9"}'], ids=["absent", "latin-1"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "prompts.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"prompts\.jsonl cannot be read"):
        read_prompts(path)


def test_a_line_ends_at_its_newline_alone(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "one\u2028two"}\n')
    assert read_prompts(path) == [Prompt.user("one\u2028two")]
