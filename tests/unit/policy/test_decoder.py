"""The decode step: every recorded log-probability is what a plain forward of the whole sequence gives."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from attune.domain.generations import Sampling
from attune.modeling.loading import LoadedPolicy, load_policy
from attune.modeling.logprobs import token_logprobs
from attune.policy.decoder import NOBODY, Decoder, Joining
from attune.policy.sampling import RowSampling
from tiny_models import FAMILIES, tiny_policy_folder


def sampling(seeds: list[int], temperature: float = 1.0) -> RowSampling:
    return RowSampling.of([(Sampling(temperature=temperature, seed=seed), 0) for seed in seeds])


class Rows:
    """Rows by name, as the engine keeps them."""

    def __init__(self, policy: LoadedPolicy) -> None:
        self.decoder = Decoder(policy.model)
        self.names: list[str] = []
        self.prompts: dict[str, list[int]] = {}
        self.tokens: dict[str, list[int]] = {}
        self.logprobs: dict[str, list[float]] = {}

    def join(self, prompts: dict[str, list[int]], seeds: list[int], temperature: float = 1.0) -> None:
        self.names += prompts
        self.prompts |= prompts
        self.step(Joining(list(prompts.values()), range(len(prompts)), sampling(seeds, temperature)))

    def step(self, joining: Joining = NOBODY) -> None:
        for name, token, logprob in zip(self.names, *self.decoder.step(joining), strict=True):
            self.tokens.setdefault(name, []).append(token)
            self.logprobs.setdefault(name, []).append(logprob)

    def leave(self, *names: str) -> None:
        order = self.decoder.leave([self.names.index(name) for name in names])
        self.names = [self.names[i] for i in order]
        assert len(self.decoder) == len(self.names)


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
    assert {name: len(tokens) for name, tokens in rows.tokens.items()} == {"a": 5, "b": 12, "c": 11, "d": 7, "e": 6}


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


def test_completions_of_one_prompt_share_its_pass_and_differ(policy: LoadedPolicy) -> None:
    decoder = Decoder(policy.model)
    rows = RowSampling.of([(Sampling(seed=5), index) for index in (0, 1, 0, 2)])
    found = [
        decoder.step(Joining([prompt(5, 1), prompt(3, 2)], [0, 0, 1, 0], rows)),
        *(decoder.step() for _ in range(6)),
    ]
    grown = list(zip(*(tokens for tokens, _ in found), strict=True))
    told = list(zip(*(logprobs for _, logprobs in found), strict=True))
    assert len(set(grown)) == 4
    for row, length in enumerate([5, 5, 3, 5]):
        expected = plain_logprobs(policy, prompt(length, 2 if length == 3 else 1), list(grown[row]))
        assert told[row] == pytest.approx(expected, abs=1e-5)
