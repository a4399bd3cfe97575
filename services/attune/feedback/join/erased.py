"""People who were erased, as salted hashes: checked for every entry of the log, in every replay.

The salt is drawn once a database. `copy_from` carries salt and hashes into a fresh database, without which a replay
there would bring erased people back.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable

from sqlalchemy import Connection, Engine, insert, select

from attune.domain.errors import ConfigurationInvalid
from attune.feedback.join import tables
from attune.feedback.join.database import become_writer
from attune.feedback.join.statements import matching_rows

SALT_NAME = "erasure"
DIGEST = tables.erased_subjects.c.digest
DIGESTS = select(DIGEST)


class Erased:
    """The set of erased people of one database. Safe to share between threads: it holds nothing but the salt."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    @classmethod
    def of(cls, engine: Engine) -> Erased:
        """With the salt of the database, drawn at the first call."""
        with engine.begin() as connection:
            become_writer(connection)
            salt = connection.execute(select(tables.salts.c.salt).where(tables.salts.c.name == SALT_NAME)).scalar()
            if salt is None:
                salt = os.urandom(32)
                connection.execute(insert(tables.salts).values(name=SALT_NAME, salt=salt))
        return cls(salt)

    def digest(self, app_id: str, subject_id: str) -> bytes:
        return hmac.digest(self._salt, f"{app_id}\x1f{subject_id}".encode(), "sha256")

    def among(self, connection: Connection, subjects: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of the (app, subject) pairs that were erased; an empty subject is nobody."""
        by_digest = {self.digest(*subject): subject for subject in subjects if subject[1]}
        return {by_digest[row.digest] for row in matching_rows(connection, DIGESTS, DIGEST, by_digest)}

    def add(self, connection: Connection, app_id: str, subject_id: str, erase_us: int) -> None:
        """Remembers a person for ever; a second time changes nothing."""
        if not self.among(connection, [(app_id, subject_id)]):
            row = {"digest": self.digest(app_id, subject_id), "erase_us": erase_us}
            connection.execute(insert(tables.erased_subjects), row)


def copy_from(source: Engine, target: Engine) -> int:
    """Carries the erased people of one database into a fresh one and returns their number.

    ConfigurationInvalid when the target has drawn a salt of its own: its hashes could not be told from the source's.
    """
    with source.connect() as connection:
        salts = [row._asdict() for row in connection.execute(select(tables.salts))]
        people = [row._asdict() for row in connection.execute(select(tables.erased_subjects))]
    with target.begin() as connection:
        become_writer(connection)
        present = [row._asdict() for row in connection.execute(select(tables.salts))]
        if present and present != salts:
            raise ConfigurationInvalid("erasures can only be carried into a database that has never run")
        if not present and salts:
            connection.execute(insert(tables.salts), salts)
        known = set(connection.execute(select(tables.erased_subjects.c.digest)).scalars())
        fresh = [person for person in people if person["digest"] not in known]
        if fresh:
            connection.execute(insert(tables.erased_subjects), fresh)
    return len(fresh)
