"""What is drawn is what a plain pass says of each row alone, up to its end."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from attune.domain.errors import PromptTooLong
from attune.modeling.drawing import draw
from attune.modeling.loading import LoadedPolicy, load_policy
from attune.modeling.logprobs import token_logprobs
from tiny_models import FAMILIES, tiny_policy_folder

PROMPTS = [[5, 6, 7, 8, 9], [10], [11, 12, 13]]


@pytest.fixture(scope="module", params=FAMILIES)
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedPolicy:
    return load_policy(tiny_policy_folder(tmp_path_factory.mktemp("model") / "policy", request.param))


def plain(policy: LoadedPolicy, prompt: list[int], tokens: tuple[int, ...], temperature: float) -> list[float]:
    ids = torch.tensor([[*prompt, *tokens]])
    with torch.inference_mode():
        logits = policy.model(input_ids=ids).logits / temperature
    return token_logprobs(logits[:, :-1], ids[:, 1:])[0, len(prompt) - 1 :].tolist()


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_log_probabilities_are_those_of_a_row_alone(policy: LoadedPolicy, temperature: float) -> None:
    for prompt, drawn in zip(
        PROMPTS, draw(policy, PROMPTS, temperature=temperature, max_tokens=9, seed=4), strict=True
    ):
        assert drawn.logprobs == pytest.approx(plain(policy, prompt, drawn.token_ids, temperature), abs=1e-4)


def test_a_seed_repeats_a_batch(policy: LoadedPolicy) -> None:
    first, again, other = (draw(policy, PROMPTS, temperature=1.0, max_tokens=9, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_the_eos_or_the_limit_or_the_context_ends_a_completion(policy: LoadedPolicy) -> None:
    eos = policy.tokenizer.eos_token_id
    prompts = [[5] * 60, *[[5]] * 64]
    drawn = draw(policy, prompts, temperature=1.0, max_tokens=40, seed=3)
    for row, limit in zip(drawn, [4, *[40] * 64], strict=True):
        assert eos not in row.token_ids[:-1]
        assert len(row.token_ids) == limit or (row.token_ids[-1] == eos and len(row.token_ids) < limit)
    assert len({len(row.token_ids) for row in drawn}) > 2


def test_a_prompt_without_room_is_refused(policy: LoadedPolicy) -> None:
    with pytest.raises(PromptTooLong):
        draw(policy, [[5] * 64], temperature=1.0, max_tokens=4, seed=0)


def test_tokens_come_as_often_as_they_are_likely(policy: LoadedPolicy) -> None:
    rows = 4000
    counted = Counter(d.token_ids[0] for d in draw(policy, [[5, 6]] * rows, temperature=0.7, max_tokens=1, seed=0))
    with torch.inference_mode():
        likely = torch.softmax(policy.model(input_ids=torch.tensor([[5, 6]])).logits[0, -1] / 0.7, -1)
    token = int(likely.argmax())
    share, expected = counted[token] / rows, float(likely[token])
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / rows) ** 0.5)
