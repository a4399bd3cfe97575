"""Bearer keys: made here, kept as hashes in one file, and asked for by every door.

A key reads `attune_<id>_<secret>`. The id is no secret: it names the key in the file, in logs and to whoever revokes
it. The secret is 32 random bytes, so that one SHA-256 is as good as a slow hash, and the file alone opens nothing:

    {"keys": [{"id": …, "name": "shop", "scopes": ["generate", "feedback"], "sha256": …, "create_time": …}]}

`KeyStore` reads the file anew when it has changed. One that cannot be read any more leaves the last keys in force, is
logged as an error, and is tried again at every call.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from attune.domain.access import ANYBODY, Identity, Scope, checked_scopes
from attune.domain.errors import ConfigurationInvalid, InvalidInput, PermissionDenied, Unauthenticated
from attune.domain.generations import checked_name
from attune.platform.access.files import stamp

log = logging.getLogger(__name__)
PREFIX = "attune"
SCHEME = "bearer"
_NOTHING = hashlib.sha256(b"").hexdigest()


class Key(BaseModel):
    """One key as the file holds it. `name` is the app it was made for, or the operator; times in Unix seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    name: str
    scopes: tuple[Scope, ...]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    create_time: float

    @field_validator("scopes")
    @classmethod
    def _stand_together(cls, scopes: tuple[Scope, ...]) -> tuple[Scope, ...]:
        try:
            return tuple(sorted(checked_scopes(scopes)))
        except InvalidInput as error:
            raise ValueError(error.message) from None

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        try:
            return checked_name(name, "name")
        except InvalidInput as error:
            raise ValueError(error.message) from None

    def identity(self) -> Identity:
        return Identity(self.name, self.id, frozenset(self.scopes))


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[Key]


def read_keys(file: Path) -> list[Key]:
    """The keys of a file; ConfigurationInvalid if it cannot be read, is not of the form, or names an id twice."""
    try:
        found = TypeAdapter(_File).validate_python(json.loads(file.read_text())).keys
    except OSError as error:
        raise ConfigurationInvalid(f"the keys {file} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ConfigurationInvalid(f"the keys {file} do not hold: {where}: {error.errors()[0]['msg']}") from None
    except ValueError:
        raise ConfigurationInvalid(f"the keys {file} are not JSON") from None
    if len({key.id for key in found}) < len(found):
        raise ConfigurationInvalid(f"the keys {file} name an id twice")
    return found


def write_keys(file: Path, keys: Sequence[Key]) -> None:
    """Replaces the file whole; its owner alone may read it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            json.dump({"keys": [key.model_dump(mode="json") for key in keys]}, out, indent=2)
            out.write("\n")
        fresh.replace(file)
    finally:
        with suppress(FileNotFoundError):
            fresh.unlink()


def new_key(name: str, scopes: Sequence[str]) -> tuple[str, Key]:
    """A fresh key, and what the file keeps of it. InvalidInput for a name or scopes that do not hold."""
    checked = tuple(sorted(checked_scopes(scopes)))
    key_id = secrets.token_hex(6)
    text = f"{PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
    return text, Key(
        id=key_id, name=checked_name(name, "name"), scopes=checked, sha256=_hash(text), create_time=round(time.time())
    )


class KeyStore:
    """The keys that hold here; without a `file` the store is open, and everybody is ANYBODY.

    ConfigurationInvalid if the file cannot be read at the start.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self.is_open = file is None
        self._keys: dict[str, Key] = {}
        self._stamp: object = None
        self._complaint = ""
        if file:
            self._stamp = stamp(file)
            self._keys = {key.id: key for key in read_keys(file)}

    def identity(self, authorization: str | None, scope: Scope) -> Identity:
        """Who calls with this Authorization header, for something of `scope`.

        Unauthenticated without a key that holds, PermissionDenied with one that was made for something else.
        """
        if self.is_open:
            return ANYBODY
        scheme, _, bearer = (authorization or "").strip().partition(" ")
        if scheme.lower() != SCHEME or not bearer:
            raise Unauthenticated("send Authorization: Bearer with a key")
        found = self.known(bearer.strip())
        if found is None:
            raise Unauthenticated("the key does not hold here")
        return allowed(found, scope)

    def known(self, bearer: str) -> Identity | None:
        """Who a key was made for; None if it does not hold."""
        if self._file is None:
            return None
        self._read_if_changed(self._file)
        key = self._keys.get(_id_of(bearer))
        is_right = hmac.compare_digest(_hash(bearer), key.sha256 if key else _NOTHING)
        return key.identity() if key and is_right else None

    def _read_if_changed(self, file: Path) -> None:
        found = stamp(file)
        if found == self._stamp:
            return
        try:
            self._keys = {key.id: key for key in read_keys(file)}
        except ConfigurationInvalid as error:
            if error.message != self._complaint:
                log.error("the keys stay as they were: %s", error.message)
            self._complaint = error.message
            return
        self._stamp, self._complaint = found, ""
        log.info("%d keys were read from %s", len(self._keys), file)


def allowed(identity: Identity, scope: Scope) -> Identity:
    """The identity, if it may do things of `scope`; else PermissionDenied."""
    if scope not in identity.scopes:
        has = ", ".join(sorted(identity.scopes))
        raise PermissionDenied(f"this takes a key with the scope {scope}; key {identity.key_id} has {has}")
    return identity


def _id_of(bearer: str) -> str:
    prefix, _, rest = bearer.partition("_")
    return rest.partition("_")[0] if prefix == PREFIX else ""


def _hash(bearer: str) -> str:
    return hashlib.sha256(bearer.encode(errors="surrogateescape")).hexdigest()
