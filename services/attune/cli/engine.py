"""The engine of the policy server, as the commands that run a whole system take it: --engine and --vllm.

With vLLM the policy server runs from a virtual environment of its own, which deploy/vllm/installation.py makes, and the
trainer writes by itself what its gate compares, for such a server answers for the live revision only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from attune.domain.errors import ConfigurationInvalid

FOLDER_VARIABLE = "ATTUNE_VLLM_CACHE"
TRANSFORMERS, VLLM = "transformers", "vllm"


@dataclass(frozen=True)
class EngineChoice:
    """KEY=VALUE settings by service that an engine needs, and the interpreters of services that do not run on ours."""

    name: str = TRANSFORMERS
    settings: Mapping[str, list[str]] = field(default_factory=dict)
    interpreters: Mapping[str, Path] = field(default_factory=dict)

    def with_settings(self, settings: Mapping[str, list[str]]) -> dict[str, list[str]]:
        """The given settings by service, and behind them the engine's."""
        return {service: [*own, *self.settings.get(service, [])] for service, own in settings.items()}


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --engine and --vllm, which reach the command as `engine` and `vllm`."""
    engine = click.option(
        "--engine",
        type=click.Choice([TRANSFORMERS, VLLM]),
        default=TRANSFORMERS,
        show_default=True,
        help="What writes the completions.",
    )
    environment = click.option(
        "--vllm",
        type=click.Path(path_type=Path, file_okay=False),
        envvar=FOLDER_VARIABLE,
        metavar="DIR",
        help="Virtual environment that has vLLM. Default: the one of deploy/vllm/installation.py.",
    )
    return engine(environment(command))


def engine_choice(engine: str, vllm: Path | None) -> EngineChoice:
    """What was chosen; ConfigurationInvalid if it needs an environment that is not there."""
    if engine == TRANSFORMERS:
        return EngineChoice()
    folder = (vllm or Path.home() / ".cache" / "attune" / "vllm").absolute()
    python = folder / "bin" / "python"
    if not os.access(python, os.X_OK):
        raise ConfigurationInvalid(
            f"{folder} is no environment that has vLLM; make it: python deploy/vllm/installation.py {folder}"
        )
    return EngineChoice(VLLM, {"policy": ["engine.name=vllm"], "trainer": ["gate.sampler=trainer"]}, {"policy": python})
