"""PPO's terms equal those of an update by TRL's PPOTrainer, on its tensors; where definitions differ, by how much."""

from __future__ import annotations

import pytest
import torch
from attune.modeling.logprobs import align_to_tokens, response_logprobs, token_logprobs
from attune.trainer import ppo
from attune.trainer.diagnostics import ratio_figures
from attune.trainer.policy_learner import PolicyLearner, PPOSettings
from attune.trainer.rollouts import Rollout
from support.trl_ppo import RESPONSE, Pass, Update, one_update
from torch import Tensor

pytestmark = [pytest.mark.trl, pytest.mark.filterwarnings("ignore")]  # warnings of what TRL uses

BETA, PENALTY, TEMPERATURE, LAM = 0.2, 1.0, 0.7, 0.95
EPOCHS = 3


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory) -> Update:
    """Three epochs on one batch, so large in steps that ratios and values leave their clip ranges."""
    return one_update(
        tmp_path_factory.mktemp("ppo"),
        num_ppo_epochs=EPOCHS,
        kl_coef=BETA,
        missing_eos_penalty=PENALTY,
        temperature=TEMPERATURE,
        lam=LAM,
        learning_rate=0.004,
    )


def near(ours: Tensor, theirs: Tensor, tolerance: float = 2e-5) -> None:
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


def whole_mask(u: Update) -> Tensor:
    """(B, P + T): true on response tokens."""
    return torch.cat([torch.zeros_like(u.query_mask), u.mask], dim=1)


def logprobs_of(u: Update, p: Pass) -> Tensor:
    """Log-probabilities of a training pass, by Attune, of its rows' responses (b, T)."""
    found = response_logprobs(p.logits, u["query_responses"][p.rows], whole_mask(u)[p.rows], u.config.temperature)
    return found[:, -RESPONSE:]


def raw_advantages(u: Update) -> Tensor:
    return torch.stack(u["advantages_reversed"][::-1], dim=1)


def test_some_responses_end_early_and_some_do_not(update: Update) -> None:
    """Otherwise little is compared below."""
    lengths = update.mask.sum(1)
    assert lengths.min() < RESPONSE - 1
    assert lengths.max() == RESPONSE
    assert not update["contain_eos_token"].all()


# Equal


def test_logprobs(update: Update) -> None:
    mask = update.mask
    drawn = token_logprobs(update["logitss"], update["responses"])  # TRL has divided them by the temperature
    near(drawn[mask], update["logprobs"][mask])
    first = update.passes[0]
    near(logprobs_of(update, first)[mask[first.rows]], update["logprobs"][first.rows][mask[first.rows]], 1e-4)
    reference = response_logprobs(update.ref_logits, update["query_responses"], whole_mask(update), TEMPERATURE)
    near(reference[:, -RESPONSE:][mask], update["ref_logprobs"][mask])


def test_kl(update: Update) -> None:
    near(ppo.kl_k1(update["logprobs"], update["ref_logprobs"]), update["kl"])
    kl = ppo.sequence_kl(update["logprobs"], update["ref_logprobs"], update.mask)
    assert kl.item() == pytest.approx(update["metrics"]["objective/kl"], abs=1e-5)


def test_kl_by_the_other_estimator(tmp_path) -> None:
    u = one_update(tmp_path, num_ppo_epochs=1, kl_estimator="k3")
    within = (u["logprobs"] - u["ref_logprobs"]).abs() < ppo.LOG_RATIO_LIMIT  # beyond, ours is cut
    near(ppo.kl_k3(u["logprobs"], u["ref_logprobs"])[within], u["kl"][within])


def test_scores_and_the_penalty_of_a_missing_end(update: Update) -> None:
    texts = torch.cat([update["queries"], update["postprocessed_responses"]], dim=1)
    with torch.no_grad():
        scores = update.reward.scores(texts, (texts != update.pad).long())
    near(ppo.missing_eos_scores(scores, update["contain_eos_token"], "penalty", PENALTY), update["scores"])


def test_values(update: Update) -> None:
    texts = update["query_responses"]
    with torch.no_grad():
        values = align_to_tokens(update.critic.values(texts, (texts != update.pad).long()))[:, -RESPONSE:]
    near(values[update.mask], update["values"][update.mask])


def test_rewards(update: Update) -> None:
    rewards = ppo.shaped_rewards(update["scores"], update["logprobs"], update["ref_logprobs"], update.mask_p1, BETA)
    near(rewards, update["rewards"])


def test_advantages_and_returns(update: Update) -> None:
    advantages, returns = ppo.gae(update["rewards"], update["values"], update.mask_p1, 1.0, LAM)
    near(advantages, raw_advantages(update))
    near(returns, update["returns"])


def test_whitening(update: Update) -> None:
    near(ppo.whiten(raw_advantages(update), update.mask, biased=False), update["advantages"])


def test_whitening_of_rewards(tmp_path) -> None:
    u = one_update(tmp_path, num_ppo_epochs=1, kl_coef=BETA, whiten_rewards=True)
    shaped = ppo.shaped_rewards(u["scores"], u["logprobs"], u["ref_logprobs"], u.mask_p1, BETA)
    near(ppo.whiten(shaped, u.mask_p1, biased=False, shift_mean=False), u["rewards"])


@pytest.mark.parametrize("epoch", range(EPOCHS))
def test_policy_loss(update: Update, epoch: int) -> None:
    p = update.passes[epoch]
    now, old, advantages, mask = logprobs_of(update, p), update["logprobs"], update["advantages"], update.mask
    loss = ppo.policy_loss(now, old[p.rows], advantages[p.rows], mask[p.rows])
    assert loss.item() == pytest.approx(update["pg_loss_stats"][epoch].item(), abs=2e-5)
    figures = ratio_figures(now, old[p.rows], advantages[p.rows], mask[p.rows])
    assert figures["clip_fraction"] == pytest.approx(update["pg_clipfrac_stats"][epoch].item(), abs=1e-6)


@pytest.mark.parametrize("epoch", range(EPOCHS))
def test_value_loss(update: Update, epoch: int) -> None:
    p = update.passes[epoch]
    values = align_to_tokens(p.values)[:, -RESPONSE:]
    loss = ppo.value_loss(values, update["values"][p.rows], update["returns"][p.rows], update.mask_p1[p.rows])
    assert loss.item() == pytest.approx(update["vf_loss_stats"][epoch].item(), rel=1e-5)


def test_both_clip_ranges_were_left(update: Update) -> None:
    """Otherwise the losses above were compared where they are easy."""
    assert update["pg_clipfrac_stats"][-1].item() > 0.05
    assert update["vf_clipfrac_stats"][-1].item() > 0.05


def test_a_whole_update_ends_at_the_same_weights(tmp_path) -> None:
    """Where no response ends early the definitions agree but for the variance of whitening."""
    lr, eps = 1e-3, 1e-5
    theirs = {"num_ppo_epochs": 1, "kl_coef": BETA, "missing_eos_penalty": PENALTY, "temperature": 1.0, "vf_coef": 1.0}
    theirs |= {"learning_rate": lr, "adam_epsilon": eps}
    updates = (one_update(tmp_path, ends=False, seed=seed, **theirs) for seed in range(9))
    u = next(u for u in updates if u.mask.all() and not u["contain_eos_token"].any())
    chosen = PPOSettings(
        actor_lr=lr, critic_lr=lr, adam_eps=eps, warmup_steps=1, kl_coefficient=BETA, max_grad_norm=1e9,
        missing_eos_value=PENALTY,
    )  # fmt: skip
    learner = PolicyLearner(u.actor, u.critic, u.reference, u.pad, chosen)
    figures = learner.update([_rollout(u, i) for i in range(len(u.mask))], seed=0)
    assert figures["kl"] == pytest.approx(u["metrics"]["objective/kl"], abs=1e-4)
    assert figures["value_loss"] == pytest.approx(u["vf_loss_stats"].item(), rel=1e-4)
    assert figures["policy_loss"] == pytest.approx(u["pg_loss_stats"].item(), abs=1e-4)
    ours = {f"policy.{name}": p for name, p in u.actor.named_parameters()}
    ours |= {f"value_model.model.{name}": p for name, p in u.critic.trunk.named_parameters()}
    ours["value_model.score.weight"] = u.critic.head.weight
    assert ours.keys() == u.after.keys()
    for name, parameter in ours.items():
        torch.testing.assert_close(parameter.detach(), u.after[name], atol=0.05 * lr, rtol=0, msg=name)


def _rollout(u: Update, row: int) -> Rollout:
    prompt = u["queries"][row][u.query_mask[row]]
    score = u["scores"][row].item() + PENALTY
    return Rollout(
        tuple(prompt.tolist()), tuple(u["responses"][row].tolist()), tuple(u["logprobs"][row].tolist()), False, score
    )


# Different by definition


def test_the_score_stands_on_the_end_and_not_after_it(update: Update) -> None:
    ours = ppo.shaped_rewards(update["scores"], update["logprobs"], update["ref_logprobs"], update.mask, BETA)
    for row, length in enumerate(update.mask.sum(1).tolist()):
        difference = ours[row] - update["rewards"][row]
        if length < RESPONSE:
            score = update["scores"][row].item()
            assert difference[length - 1].item() == pytest.approx(score, abs=1e-5)
            assert difference[length].item() == pytest.approx(-score, abs=1e-5)
            difference[length - 1 : length + 1] = 0.0
        near(difference, torch.zeros(RESPONSE))


def test_so_advantages_differ_by_the_value_after_the_end(update: Update) -> None:
    """By (1 - lambda) lambda^(steps to the end) (score - V after the end): not at all for lambda 1."""
    for lam in (LAM, 1.0):
        rewards = ppo.shaped_rewards(update["scores"], update["logprobs"], update["ref_logprobs"], update.mask, BETA)
        ours, _ = ppo.gae(rewards, update["values"], update.mask, 1.0, lam)
        theirs, _ = ppo.gae(update["rewards"], update["values"], update.mask_p1, 1.0, lam)
        for row, length in enumerate(update.mask.sum(1).tolist()):
            expected = torch.zeros(length)
            if length < RESPONSE:
                surprise = update["scores"][row] - update["values"][row, length]
                expected = (1 - lam) * lam ** torch.arange(length - 1, -1, -1) * surprise
            near((ours - theirs)[row, :length], expected)


def test_the_value_after_the_end_is_not_trained(update: Update) -> None:
    extra = update.mask_p1 & ~update.mask
    assert extra.any(1).equal(update.mask.sum(1) < RESPONSE)
    near(update["returns"][extra], update["scores"][extra.any(1)])


def test_whitening_divides_by_n_and_not_by_one_less(update: Update) -> None:
    n = update.mask.sum()
    ours = ppo.whiten(raw_advantages(update), update.mask)
    near(ours, update["advantages"] * (n / (n - 1)).sqrt())


def test_micro_batches_share_the_count_of_the_whole(tmp_path) -> None:
    u = one_update(tmp_path, num_ppo_epochs=1, gradient_accumulation_steps=2, learning_rate=0.01)
    losses, counts = [], []
    for i, p in enumerate(u.passes):
        terms = (logprobs_of(u, p), u["logprobs"][p.rows], u["advantages"][p.rows], u.mask[p.rows])
        losses.append((ppo.policy_loss(*terms).item(), ppo.policy_loss(*terms, count=u.mask.sum()).item()))
        counts.append(int(u.mask[p.rows].sum()))
        assert losses[i][0] == pytest.approx(u["pg_loss_stats"][0, 0, i].item(), abs=2e-5)  # TRL: a mean of its own
    assert counts[0] != counts[1]
    theirs, ours = sum(own for own, _ in losses) / 2, sum(share for _, share in losses)
    weighted = sum(own * n for (own, _), n in zip(losses, counts, strict=True)) / sum(counts)
    assert ours == pytest.approx(weighted, abs=1e-6)
    assert ours != pytest.approx(theirs, abs=1e-6)


def test_the_kl_between_old_and_new_is_a_mean_over_tokens(update: Update) -> None:
    p = update.passes[-1]
    figures = ratio_figures(
        logprobs_of(update, p), update["logprobs"][p.rows], update["advantages"][p.rows], update.mask[p.rows]
    )
    over_padding_too = figures["approx_kl"] * update.mask.float().mean().item()
    assert update["approxkl_stats"][-1].item() == pytest.approx(over_padding_too, rel=1e-4)
