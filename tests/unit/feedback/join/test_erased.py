"""The salted hashes of erased people."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attune.domain.errors import ConfigurationInvalid
from attune.feedback.join import tables
from attune.feedback.join.erased import Erased, copy_from
from sqlalchemy import Engine, select


def add(engine: Engine, *subjects: str) -> Erased:
    erased = Erased.of(engine)
    with engine.begin() as connection:
        for subject in subjects:
            erased.add(connection, "shop", subject, 1)
    return erased


def test_no_name_is_stored_and_salts_differ(new_engine: Callable[[str], Engine]) -> None:
    one, other = new_engine("one"), new_engine("other")
    digests = []
    for engine in (one, other):
        add(engine, "ann")
        with engine.connect() as connection:
            digests += connection.execute(select(tables.erased_subjects.c.digest)).scalars()
    assert len(set(digests)) == 2
    assert all(len(digest) == 32 for digest in digests)


def test_the_salt_outlives_a_restart(engine: Engine) -> None:
    add(engine, "ann")
    again = Erased.of(engine)
    with engine.connect() as connection:
        assert again.among(connection, [("shop", "ann"), ("shop", "bob"), ("shop", "")]) == {("shop", "ann")}


def test_a_person_is_remembered_once(engine: Engine) -> None:
    add(engine, "ann", "ann")
    with engine.connect() as connection:
        assert len(connection.execute(select(tables.erased_subjects)).all()) == 1


def test_erasures_are_carried_into_a_fresh_database_once(new_engine: Callable[[str], Engine]) -> None:
    source, target = new_engine("source"), new_engine("target")
    add(source, "ann")
    assert copy_from(source, target) == 1
    assert copy_from(source, target) == 0
    with target.connect() as connection:
        assert Erased.of(target).among(connection, [("shop", "ann")]) == {("shop", "ann")}


def test_erasures_are_not_mixed_into_another_salt(new_engine: Callable[[str], Engine]) -> None:
    source, target = new_engine("source"), new_engine("target")
    add(source, "ann")
    add(target, "bob")
    with pytest.raises(ConfigurationInvalid):
        copy_from(source, target)
