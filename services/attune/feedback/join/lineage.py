"""Which revisions had read up to an example: asked of the registry's manifests when a person is erased."""

from __future__ import annotations

from attune.domain.errors import AttuneError, InvalidInput
from attune.domain.revisions import KINDS, ModelName, RevisionName
from attune.platform.registry.registry import Registry


def revisions_after(registry: Registry, sequence: int) -> list[RevisionName]:
    """Revisions of every model whose data ended at or after the sequence number, in order of model and number.

    That is more than those that drew the very example: sampling is at random, and descendants inherit. Raises what
    the registry raises; a manifest that cannot be read must not pass for innocent.
    """
    return [
        name
        for model in _models(registry)
        for number in registry.revisions(model)
        if registry.manifest(name := model.revision(number)).example_sequence >= sequence
    ]


def _models(registry: Registry) -> list[ModelName]:
    found = []
    for kind in KINDS:
        for folder in registry.storage.names(kind):
            try:
                found.append(ModelName(kind, folder))
            except InvalidInput:
                continue  # Not written by a registry.
    return found


def revisions_after_or_none(registry: Registry | None, sequences: tuple[int, ...]) -> tuple[list[str], str]:
    """Full names, and why they are missing if the registry could not be asked; erasure itself never waits for it."""
    if registry is None:
        return [], "No registry is configured, so that the revisions cannot be listed."
    if not sequences:
        return [], ""
    try:
        return [str(name) for name in revisions_after(registry, min(sequences))], ""
    except (AttuneError, OSError) as error:
        return [], f"The registry could not be read, so that the revisions cannot be listed: {error}"
