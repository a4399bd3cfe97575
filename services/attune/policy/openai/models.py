"""Names of models as OpenAI's clients say them, and the revisions that they mean.

`support` is what stable names, `support@canary` what another alias names, `support@7` one revision; a full revision
name is understood too. An answer says `support@7`: the weights that wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping

from attune.domain.errors import RevisionUnknown
from attune.domain.revisions import STABLE, ModelName, RevisionName


def asked_revision(name: str, model: ModelName) -> str:
    """What a request for a model of this name asks of the writer; RevisionUnknown if it names no model here."""
    if name in ("", model.model, str(model)):
        return ""
    policy, at, revision = name.partition("@")
    if at and revision and policy == model.model:
        return revision
    if name.startswith(f"{model}/"):
        return name
    raise RevisionUnknown(
        f"there is no model {name[:200]!r} here; say {model.model}, or {model.model}@ and an alias or number",
        metadata={"model": name[:200]},
    )


def model_of(revision: str) -> str:
    """The model that a revision, by its full name, is in an answer."""
    name = RevisionName.parse(revision)
    return f"{name.model}@{name.number}"


def listed(model: ModelName, aliases: Mapping[str, str], loaded: tuple[str, ...]) -> dict[str, str]:
    """The models that may be asked for now, and the full name of the revision behind each: aliases, then numbers."""
    named = {
        model.model if alias == STABLE else f"{model.model}@{alias}": revision
        for alias, revision in aliases.items()
        if revision in loaded
    }
    return named | {model_of(revision): revision for revision in loaded}
