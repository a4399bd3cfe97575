"""Aliases: series of immutable files `<kind>/<model>/aliases/<alias>/<epoch>-<sequence>.json`, the highest counts.

Why a deposed trainer cannot move an alias, without compare-and-swap
--------------------------------------------------------------------
A move is: (1) check that no newer epoch was taken; (2) create `<epoch>-<sequence>.json` exclusively; (3) check again.
Taking epoch e is: (a) create `epochs/<e>`; (b) read the head of every alias; (c) write `<e>-1.json` with what was read.
Every step is atomic and seen by all at once (a POSIX directory; S3 and GCS list and read consistently).

* A move that returned is never undone by a take-over: its step 3 saw no newer epoch, so its file was there before (a),
  hence before (b), hence (c) repeats it.
* A deposed trainer that was paused anywhere and wakes after the take-over was complete changes nothing: its file has a
  lower epoch than `<e>-1.json`, which (c) wrote for *every* alias there can be (one that was never set gets number 0),
  so no reader takes it; and its step 3 raises EpochSuperseded.
* A deposed trainer that writes between (b) and (c) is told EpochSuperseded; readers may see its revision, which passed
  its gate, until (c). Between (a) and (b) the same, and (c) may keep it. In both cases a move that raised may have
  counted, and one that returned has.

A file that cannot be parsed is ignored and counted, the record before it counts, and its sequence number is used up.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator

from attune.domain.errors import AlreadyPublished, EpochSuperseded, RegistryCorrupt
from attune.domain.revisions import ALIASES, AliasRecord, ModelName, check_alias
from attune.platform.registry.epochs import Epochs
from attune.platform.registry.storage import Storage

log = logging.getLogger(__name__)

_FILE = re.compile(r"([0-9]+)-([0-9]+)\.json")


class Aliases:
    """The aliases of a registry. `torn_files` are those that were ignored so far."""

    def __init__(self, storage: Storage, epochs: Epochs, clock: Callable[[], float] = time.time) -> None:
        self._storage, self._epochs, self._clock = storage, epochs, clock
        self.torn_files: set[str] = set()

    def head(self, model: ModelName, alias: str) -> AliasRecord | None:
        """The record that counts; None if the alias points at nothing."""
        record = self._newest(model, alias)
        return record if record is not None and record.number else None

    def history(self, model: ModelName, alias: str) -> list[AliasRecord]:
        """Every record that can be read, the newest first, affirmations of new epochs included."""
        return list(self._records(model, alias))

    def move(
        self,
        model: ModelName,
        alias: str,
        number: int,
        *,
        epoch: int,
        actor: str,
        reason: str,
        expected: int | None = None,
    ) -> AliasRecord:
        """Points the alias at a revision, as the module says.

        `expected` is the number that the alias must have now (0: none), else AlreadyPublished. EpochSuperseded if a
        newer epoch was taken: before step 2 nothing was written, after it nothing that counts for long.
        """
        self._epochs.check(model, epoch)
        while True:
            head = self._newest(model, alias)
            if expected is not None and (head.number if head else 0) != expected:
                raise AlreadyPublished(f"{model}: {alias} is at {head.number if head else 'nothing'}, not {expected}")
            record = self._next_record(model, alias, head, number, epoch, actor, reason)
            if self._create(model, record):
                break
        self._epochs.check(model, epoch)
        return record

    def affirm(self, model: ModelName, epoch: int, actor: str) -> None:
        """Repeats the head of every alias under a new epoch: steps (b) and (c) of taking it."""
        for alias in ALIASES:
            head = self._newest(model, alias)
            if head is not None and head.epoch > epoch:
                raise EpochSuperseded(f"{model}: epoch {epoch} was superseded by {head.epoch}")
            number = head.number if head else 0
            record = self._next_record(model, alias, head, number, epoch, actor, f"epoch {epoch} was taken")
            self._create(model, record)

    def _next_record(
        self,
        model: ModelName,
        alias: str,
        head: AliasRecord | None,
        number: int,
        epoch: int,
        actor: str,
        reason: str,
    ) -> AliasRecord:
        used = [sequence for file_epoch, sequence in self._positions(model, alias) if file_epoch == epoch]
        sequence = max(used, default=0) + 1
        return AliasRecord(
            alias, epoch, sequence, number, _previous(head, number), round(self._clock(), 6), actor, reason
        )

    def _create(self, model: ModelName, record: AliasRecord) -> bool:
        return self._storage.create(_path(model, record.alias, record.position), record.to_json())

    def _newest(self, model: ModelName, alias: str) -> AliasRecord | None:
        return next(self._records(model, alias), None)

    def _records(self, model: ModelName, alias: str) -> Iterator[AliasRecord]:
        for position in self._positions(model, alias):
            path = _path(model, alias, position)
            try:
                record = AliasRecord.from_json(self._storage.read(path))
                if (record.alias, record.position) != (alias, position):
                    raise RegistryCorrupt(f"holds the record of {record.alias} {record.position}")
            except RegistryCorrupt as error:
                if path not in self.torn_files:
                    log.warning("%s is ignored: %s", path, error)
                    self.torn_files.add(path)
                continue
            yield record

    def _positions(self, model: ModelName, alias: str) -> list[tuple[int, int]]:
        """(epoch, sequence) of every file, torn ones too, the highest first."""
        names = self._storage.names(f"{model}/aliases/{check_alias(alias)}")
        matches = [match for name in names if (match := _FILE.fullmatch(name))]
        return sorted(((int(match[1]), int(match[2])) for match in matches), reverse=True)


def _previous(head: AliasRecord | None, number: int) -> int | None:
    """The last revision that is not `number`."""
    if head is None or head.number in (0, number):
        return head.previous if head else None
    return head.number


def _path(model: ModelName, alias: str, position: tuple[int, int]) -> str:
    return f"{model}/aliases/{alias}/{position[0]}-{position[1]}.json"
