"""Epochs: who leads a model's line of revisions. Files `<kind>/<model>/epochs/<e>`, each created exclusively.

Whoever creates the highest number leads; that it exists is all that counts, its content is for people. A trainer takes
one number for all the models it moves (its policy and its reward models), so that one number goes with every control
call. Trainers of different policies in one registry do not disturb each other.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence

from attune.domain.errors import ConfigurationInvalid, EpochSuperseded, InvalidInput
from attune.domain.revisions import ModelName
from attune.platform.registry.storage import Storage


class Epochs:
    """The epochs of a registry."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def newest(self, model: ModelName) -> int:
        """The highest epoch taken; 0 if none was."""
        names = self._storage.names(f"{model}/epochs")
        return max((int(name) for name in names if name.isascii() and name.isdigit()), default=0)

    def check(self, model: ModelName, epoch: int) -> None:
        """EpochSuperseded if a newer epoch was taken, InvalidInput if this one never was."""
        newest = self.newest(model)
        if newest > epoch:
            raise EpochSuperseded(
                f"{model}: epoch {epoch} was superseded by {newest}",
                metadata={"epoch": str(epoch), "newest_epoch": str(newest)},
            )
        if newest < epoch or epoch < 1:
            raise InvalidInput.field("epoch", f"{epoch} was never taken for {model}; take an epoch first")

    def take(self, models: Sequence[ModelName], owner: str) -> int:
        """Takes one new epoch for all these models; EpochSuperseded if another overtook us meanwhile.

        ConfigurationInvalid for a store without exclusive creation: some that speak S3 ignore If-None-Match.
        """
        content = json.dumps({"owner": owner, "time": time.time(), "nonce": uuid.uuid4().hex}).encode()
        ordered = sorted(set(models))
        epoch = 0
        while True:
            # A lost race leaves a higher number to start from, so each turn of some taker ends in success.
            epoch = max(epoch, *(self.newest(model) for model in ordered)) + 1
            if all(self._storage.create(f"{model}/epochs/{epoch}", content) for model in ordered):
                break
        if self._storage.create(f"{ordered[0]}/epochs/{epoch}", b"{}"):
            raise ConfigurationInvalid(
                "the registry's store lets a file be created twice: two trainers could both lead"
            )
        for model in ordered:
            self.check(model, epoch)
        return epoch
