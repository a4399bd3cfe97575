"""Freshness: how long an event waits until a person gets an answer from weights that have learned from it.

A policy revision seen in user traffic is followed up in the registry: once it was promoted, every reward revision in
its lineage (its own, those of the policies before it, and their parents) that no earlier policy had served is served
from then on, and with it the examples that this reward revision drew for the first time: `details["new_examples"]` of
its manifest, a JSON list of [first, last] sequence numbers, both included. Each is observed once: what was served is
kept in the database. Numbers are times of the log, so late follow-up changes nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Engine, insert, select, update

from attune.domain.errors import AttuneError, InvalidInput, RegistryCorrupt, RevisionUnknown
from attune.domain.revisions import STABLE, AliasRecord, Manifest, RevisionName
from attune.feedback.join import tables
from attune.feedback.join.database import become_writer
from attune.platform.registry.registry import Registry

NEW_EXAMPLES = "new_examples"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """A reward revision that reached people, and the examples it brought as inclusive ranges."""

    revision: RevisionName
    new_examples: tuple[tuple[int, int], ...]


def newly_served(
    policy: RevisionName, manifest_of: Callable[[RevisionName], Manifest], known: Iterable[RevisionName]
) -> list[Served]:
    """Reward revisions in the lineage of a policy that are not `known` yet, the newest first.

    Walks from the policy to its reward revision and to both their parents; what is known ends a branch, for its own
    lineage was served with it, and so does an ancestor without a manifest. `known` holds policies and rewards alike.
    RevisionUnknown if the policy has no manifest; RegistryCorrupt.
    """
    done = set(known)
    waiting = [policy]
    found: list[Served] = []
    while waiting:
        name = waiting.pop(0)
        if name in done:
            continue
        done.add(name)
        try:
            manifest = manifest_of(name)
        except RevisionUnknown:
            if name == policy:
                raise
            continue
        if name.kind == "rewards":
            found.append(Served(name, example_ranges(manifest.details)))
        elif manifest.reward_revision is not None:
            waiting.append(RevisionName.parse(manifest.reward_revision))
        if manifest.parent:
            waiting.append(name.model_name.revision(manifest.parent))
    return found


def example_ranges(details: Mapping[str, str]) -> tuple[tuple[int, int], ...]:
    """The ranges of `new_examples`; none if the revision names none. RegistryCorrupt if they are no ranges."""
    try:
        ranges = [(first, last) for first, last in json.loads(details.get(NEW_EXAMPLES, "[]"))]
    except (ValueError, TypeError) as error:
        raise RegistryCorrupt(f"new_examples are no ranges: {error}") from None
    if not all(isinstance(n, int) and n > 0 for pair in ranges for n in pair):
        raise RegistryCorrupt("new_examples are no ranges of sequence numbers")
    return tuple(ranges)


def promotion_us(history: Iterable[AliasRecord], number: int) -> int | None:
    """When the alias first pointed at the revision, in microseconds; None if it never did."""
    times = [record.time for record in history if record.number == number]
    return round(min(times) * 1_000_000) if times else None


class Freshness:
    """Follows up the policies that the join has seen. `observe` takes seconds, once an example."""

    def __init__(self, engine: Engine, registry: Registry, observe: Callable[[float], None]) -> None:
        self._engine, self._registry, self._observe = engine, registry, observe

    def follow_up(self) -> int:
        """Settles what can be settled now and returns the number of examples observed.

        A registry that cannot be read leaves its revisions for the next time; an error of the database rises.
        """
        observed = 0
        for name, first_us in self._unresolved():
            try:
                observed += self._settle(name, first_us)
            except (AttuneError, OSError) as error:
                logger.warning("freshness of %s waits for the registry: %s", name, error)
        return observed

    def _settle(self, text: str, first_us: int) -> int:
        try:
            policy = RevisionName.parse(text)
            promoted_us = promotion_us(self._registry.history(policy.model_name, STABLE), policy.number)
            if promoted_us is None:
                return 0
            served = newly_served(policy, self._registry.manifest, self._known())
        except (InvalidInput, RevisionUnknown):
            # Not a revision of this registry, and it never will be.
            self._resolve(text, first_us, [])
            return 0
        return self._resolve(text, max(first_us, promoted_us), served)

    def _unresolved(self) -> list[tuple[str, int]]:
        table = tables.seen_policies
        query = select(table.c.revision, table.c.first_us).where(table.c.is_resolved.is_(False))
        with self._engine.connect() as connection:
            return [(row.revision, row.first_us) for row in connection.execute(query.order_by(table.c.first_us))]

    def _known(self) -> list[RevisionName]:
        seen, served = tables.seen_policies, tables.served_rewards
        with self._engine.connect() as connection:
            names = list(connection.execute(select(served.c.revision)).scalars())
            names += connection.execute(select(seen.c.revision).where(seen.c.is_resolved)).scalars()
        return [name for text in names if (name := _parsed(text)) is not None]

    def _resolve(self, policy: str, served_us: int, served: list[Served]) -> int:
        """Marks everything served in one transaction, then observes: a crash between loses numbers, never doubles."""
        seen, rewards, examples = tables.seen_policies, tables.served_rewards, tables.examples
        accepted: list[int] = []
        with self._engine.begin() as connection:
            become_writer(connection)
            connection.execute(update(seen).where(seen.c.revision == policy).values(is_resolved=True))
            for reward in served:
                connection.execute(insert(rewards).values(revision=str(reward.revision), first_us=served_us))
                for first, last in reward.new_examples:
                    query = select(examples.c.accept_us).where(examples.c.sequence.between(first, last))
                    accepted += connection.execute(query).scalars()
        for accept_us in accepted:
            self._observe(max(0.0, (served_us - accept_us) / 1_000_000))
        return len(accepted)


def _parsed(text: str) -> RevisionName | None:
    try:
        return RevisionName.parse(text)
    except InvalidInput:
        return None
