"""The decode step: every recorded log-probability is what a plain forward of the whole sequence gives."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from attune.modeling.loading import LoadedPolicy, load_policy
from attune.modeling.logprobs import token_logprobs
from attune.policy.decoder import Decoder
from attune.policy.sampling import RowSampling, stream_of
from tiny_models import FAMILIES, tiny_policy_folder


def sampling(seeds: list[int], temperature: float = 1.0) -> RowSampling:
    n = len(seeds)
    streams = np.array([stream_of(seed, 0) for seed in seeds], dtype=np.uint64)
    return RowSampling(torch.full((n,), temperature), torch.ones(n), torch.zeros(n, dtype=torch.long), streams)


class Rows:
    """Rows by name, as the engine keeps them."""

    def __init__(self, policy: LoadedPolicy) -> None:
        self.decoder = Decoder(policy.model, int(policy.tokenizer.pad_token_id))
        self.names: list[str] = []
        self.prompts: dict[str, list[int]] = {}
        self.tokens: dict[str, list[int]] = {}
        self.logprobs: dict[str, list[float]] = {}

    def join(self, prompts: dict[str, list[int]], seeds: list[int], temperature: float = 1.0) -> None:
        names = list(prompts)
        found = self.decoder.join(list(prompts.values()), range(len(names)), sampling(seeds, temperature))
        self.names += names
        self.prompts |= prompts
        self._take(names, *found)

    def step(self) -> None:
        self._take(self.names, *self.decoder.step())

    def leave(self, *names: str) -> None:
        order = self.decoder.leave([self.names.index(name) for name in names])
        self.names = [self.names[i] for i in order]
        assert len(self.decoder) == len(self.names)

    def _take(self, names: list[str], tokens: list[int], logprobs: list[float]) -> None:
        for name, token, logprob in zip(names, tokens, logprobs, strict=True):
            self.tokens.setdefault(name, []).append(token)
            self.logprobs.setdefault(name, []).append(logprob)


def plain_logprobs(policy: LoadedPolicy, asked: list[int], tokens: list[int], temperature: float = 1.0) -> list[float]:
    ids = torch.tensor([asked + tokens])
    with torch.inference_mode():
        logits = policy.model(input_ids=ids).logits
    return token_logprobs(logits[:, :-1], ids[:, 1:], temperature)[0, len(asked) - 1 :].tolist()


def prompt(n: int, seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(5, 290) for _ in range(n)]


@pytest.fixture(scope="module", params=FAMILIES)
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedPolicy:
    return load_policy(tiny_policy_folder(tmp_path_factory.mktemp("model") / request.param, request.param))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_rows_that_join_and_leave_keep_their_logprobs(policy: LoadedPolicy, temperature: float) -> None:
    rows = Rows(policy)
    rows.join({"a": prompt(3, 1), "b": prompt(9, 2), "c": prompt(1, 3)}, [1, 2, 3], temperature)
    for _ in range(4):
        rows.step()
    rows.leave("a")
    rows.join({"d": prompt(14, 4), "e": prompt(2, 5)}, [4, 5], temperature)
    for _ in range(5):
        rows.step()
    rows.leave("c", "e")
    rows.step()
    for name, tokens in rows.tokens.items():
        expected = plain_logprobs(policy, rows.prompts[name], tokens, temperature)
        assert rows.logprobs[name] == pytest.approx(expected, abs=1e-5)
    assert {name: len(tokens) for name, tokens in rows.tokens.items()} == {"a": 5, "b": 11, "c": 10, "d": 7, "e": 6}


def test_many_rows_that_leave_in_any_order_keep_their_logprobs(policy: LoadedPolicy) -> None:
    rng = random.Random(5)
    rows = Rows(policy)
    for generation in range(6):
        names = [f"{generation}.{i}" for i in range(12)]
        rows.join({name: prompt(rng.randint(1, 20), rng.randrange(97)) for name in names}, list(range(12)))
        for _ in range(3):
            rows.step()
        rows.leave(*rng.sample(rows.names, 6))
    assert len(rows.names) == 36
    rows.step()
    for name in rows.names:
        expected = plain_logprobs(policy, rows.prompts[name], rows.tokens[name])
        assert rows.logprobs[name] == pytest.approx(expected, abs=1e-5)


def test_a_row_draws_the_same_alone_and_in_a_crowd(tmp_path: Path) -> None:
    policy = load_policy(tiny_policy_folder(tmp_path / "model"))
    alone, crowd = Rows(policy), Rows(policy)
    alone.join({"mine": prompt(6, 9)}, [42])
    crowd.join({f"other{i}": prompt(3 + i, i) for i in range(7)}, list(range(7)))
    crowd.step()
    crowd.join({"mine": prompt(6, 9)}, [42])
    crowd.leave("other0", "other3")
    for _ in range(10):
        alone.step()
        crowd.step()
    assert crowd.tokens["mine"] == alone.tokens["mine"]


def test_completions_of_one_prompt_share_its_prefill_and_differ(tmp_path: Path) -> None:
    policy = load_policy(tiny_policy_folder(tmp_path / "model"))
    decoder = Decoder(policy.model, int(policy.tokenizer.pad_token_id))
    streams = np.array([stream_of(5, i) for i in range(4)], dtype=np.uint64)
    rows = RowSampling(torch.ones(4), torch.ones(4), torch.zeros(4, dtype=torch.long), streams)
    tokens, _ = decoder.join([prompt(5, 1)], [0, 0, 0, 0], rows)
    grown = [tokens, *(decoder.step()[0] for _ in range(6))]
    assert len({tuple(row) for row in zip(*grown, strict=True)}) == 4
