"""Who calls and what they may: the scopes of keys, and the identity that a key stands for.

A key is an app's, with any of generate, score and feedback, or an operator's, with control alone: what an app holds
never steers the system, and what steers it never speaks for an app.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from attune.domain.errors import FieldViolation, InvalidInput, PermissionDenied


class Scope(StrEnum):
    """What a port is for, and so what a key must be made for to call it."""

    GENERATE = "generate"
    SCORE = "score"
    FEEDBACK = "feedback"
    CONTROL = "control"


def checked_scopes(scopes: Iterable[str]) -> frozenset[Scope]:
    """Scopes by their names; InvalidInput for none, an unknown one, or control beside another."""
    try:
        found = frozenset(map(Scope, scopes))
    except ValueError:
        raise InvalidInput.field("scopes", f"must be of {', '.join(Scope)}") from None
    if not found:
        raise InvalidInput.field("scopes", "must be at least one")
    if Scope.CONTROL in found and len(found) > 1:
        raise InvalidInput.field("scopes", "control stands alone: make another key for the rest")
    return found


@dataclass(frozen=True)
class Identity:
    """Who a key was made for: an app id, or the name of an operator. Empty is anybody: this server asks for no key."""

    name: str = ""
    key_id: str = ""
    scopes: frozenset[Scope] = frozenset(Scope)

    def app_id(self, said: str, field: str = "app_id") -> str:
        """The app of a request that says `said`, perhaps nothing; PermissionDenied if that is another's."""
        if self.name and said not in ("", self.name):
            description = f"must be {self.name}, whose key this is"
            raise PermissionDenied(f"{field}: {description}", violations=[FieldViolation(field, description)])
        return said or self.name


ANYBODY = Identity()
