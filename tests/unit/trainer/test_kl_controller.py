"""The KL coefficient: golden values of the adaptive rule, and the way through a checkpoint."""

from __future__ import annotations

import json

import pytest
from attune.trainer.kl_controller import AdaptiveKL, FixedKL, KLController, controller_from_dict


@pytest.mark.parametrize(
    ("kl", "expected"),
    [(12.0, 0.151536), (6.0, 0.150000), (3.0, 0.148464), (6.6, 0.150768)],
    # 512 / 10,000 = 0.0512; times the error clipped to 0.2, 0, -0.2 and 0.1; times 0.15, added to 0.15
)
def test_adaptive_kl_golden_values(kl: float, expected: float) -> None:
    assert AdaptiveKL(0.15, target=6.0, horizon=10_000).updated(kl, 512).coefficient == pytest.approx(
        expected, abs=1e-9
    )


def test_updating_returns_a_new_value_and_keeps_the_old() -> None:
    before = AdaptiveKL(0.15, 6.0, 10_000)
    after = before.updated(100.0, 1000).updated(100.0, 1000)
    assert before.coefficient == 0.15
    assert after.coefficient == pytest.approx(0.15 * 1.02 * 1.02)
    assert (after.target, after.horizon) == (6.0, 10_000)


def test_fixed_kl_stays() -> None:
    assert FixedKL(0.05).updated(1e6, 10_000) == FixedKL(0.05)


@pytest.mark.parametrize("controller", [FixedKL(0.05), AdaptiveKL(0.123, 4.0, 5000.0)])
def test_a_controller_survives_a_checkpoint(controller: KLController) -> None:
    assert controller_from_dict(json.loads(json.dumps(controller.to_dict()))) == controller


@pytest.mark.parametrize("kl", [float("nan"), float("inf")])
def test_a_kl_that_is_not_finite_is_refused(kl: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        AdaptiveKL().updated(kl, 1)


def test_senseless_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="coefficient"):
        FixedKL(-0.1)
    with pytest.raises(ValueError, match="target"):
        AdaptiveKL(target=0.0)
    with pytest.raises(ValueError, match="horizon"):
        AdaptiveKL(horizon=float("inf"))
    with pytest.raises(ValueError, match="unknown"):
        controller_from_dict({"kind": "pid", "coefficient": 1.0})
