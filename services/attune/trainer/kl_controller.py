"""The coefficient beta of the KL penalty: fixed, or steered toward a target KL.

A controller is a frozen value: `updated` returns the next one, so that a rejected step keeps the one it had, and
`to_dict`/`controller_from_dict` carry it through a checkpoint. Refused: coefficients, targets and horizons that are not
positive, and a KL that is not finite.

Source of the adaptive rule: Ziegler et al., arXiv 1909.08593, section 2.2 (there from 0.15, target 6, horizon 10,000).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

MAX_ERROR = 0.2
"""The relative error is clipped to this, so that one wild batch moves the coefficient by a bounded share."""


@dataclass(frozen=True)
class FixedKL:
    """A coefficient that stays as it is."""

    coefficient: float

    def __post_init__(self) -> None:
        if not (self.coefficient >= 0 and math.isfinite(self.coefficient)):
            raise ValueError(f"coefficient must be finite and not negative, got {self.coefficient}")

    def updated(self, kl: float, episodes: int) -> FixedKL:
        """Itself, whatever the KL."""
        return self

    def to_dict(self) -> dict[str, float | str]:
        """Plain values for a checkpoint."""
        return {"kind": "fixed", **asdict(self)}


@dataclass(frozen=True)
class AdaptiveKL:
    """A coefficient that rises while the KL exceeds `target` (nats a response) and falls while it is below.

    `horizon` is in episodes: how many it takes, at the greatest error, to move the coefficient by a share of 0.2.
    """

    coefficient: float = 0.15
    target: float = 6.0
    horizon: float = 10_000

    def __post_init__(self) -> None:
        for name, number in asdict(self).items():
            if not (number > 0 and math.isfinite(number)):
                raise ValueError(f"{name} must be finite and positive, got {number}")

    def updated(self, kl: float, episodes: int) -> AdaptiveKL:
        """beta (1 + clip(KL / target - 1, -0.2, 0.2) n / horizon), after n episodes whose mean KL was `kl` nats."""
        if not math.isfinite(kl):
            raise ValueError(f"KL must be finite, got {kl}")
        error = max(-MAX_ERROR, min(MAX_ERROR, kl / self.target - 1))
        return AdaptiveKL(self.coefficient * (1 + error * episodes / self.horizon), self.target, self.horizon)

    def to_dict(self) -> dict[str, float | str]:
        """Plain values for a checkpoint."""
        return {"kind": "adaptive", **asdict(self)}


KLController = FixedKL | AdaptiveKL


def controller_from_dict(state: Mapping[str, float | str]) -> KLController:
    """The controller that `to_dict` wrote; an unknown kind or field is refused."""
    kinds = {"fixed": FixedKL, "adaptive": AdaptiveKL}
    if state.get("kind") not in kinds:
        raise ValueError(f"unknown KL controller {state.get('kind')!r}, expected one of {sorted(kinds)}")
    fields = {name: float(value) for name, value in state.items() if name != "kind"}
    return kinds[str(state["kind"])](**fields)
