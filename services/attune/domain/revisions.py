"""Revisions: their names, manifests and alias records, as JSON in the registry and as messages on the wire.

Names and records come from files that others may have edited, so parsing refuses whatever it would not have written:
RegistryCorrupt for files, InvalidInput for names that a caller typed. No I/O here.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar, cast

from attune.domain.errors import InvalidInput, RegistryCorrupt

T = TypeVar("T")
Kind = Literal["policies", "rewards"]
KINDS: tuple[Kind, ...] = ("policies", "rewards")

STABLE = "stable"
CANARY = "canary"
LATEST = "latest"
ALIASES = (STABLE, CANARY, LATEST)

# One path segment, no leading dot: what a name may be made of on every file system and in every URL.
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, order=True)
class ModelName:
    """A line of revisions, "policies/support" or "rewards/support"."""

    kind: Kind
    model: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidInput.field("name", f'must start with "policies/" or "rewards/", not "{self.kind}/"')
        if not _SEGMENT.fullmatch(self.model):
            raise InvalidInput.field("name", "a model's name is letters, digits, '.', '_' and '-', at most 63")

    @classmethod
    def parse(cls, text: str) -> ModelName:
        kind, slash, model = text.partition("/")
        if not slash:
            raise InvalidInput.field("name", f'"{text}" is no name such as policies/support')
        return cls(cast(Kind, kind), model)

    def revision(self, number: int) -> RevisionName:
        """The name of one of its revisions."""
        return RevisionName(self.kind, self.model, number)

    def __str__(self) -> str:
        return f"{self.kind}/{self.model}"


@dataclass(frozen=True, order=True)
class RevisionName:
    """One revision, "policies/support/revisions/7". Numbers start at 1; 0 stands for "before the first"."""

    kind: Kind
    model: str
    number: int

    def __post_init__(self) -> None:
        ModelName(self.kind, self.model)
        if self.number < 0:
            raise InvalidInput.field("name", "a revision's number is not negative")

    @classmethod
    def parse(cls, text: str) -> RevisionName:
        parts = text.split("/")
        if len(parts) != 4 or parts[2] != "revisions" or not _NUMBER.fullmatch(parts[3]):
            raise InvalidInput.field("name", f'"{text}" is no name such as policies/support/revisions/7')
        return cls(cast(Kind, parts[0]), parts[1], int(parts[3]))

    @property
    def model_name(self) -> ModelName:
        return ModelName(self.kind, self.model)

    def __str__(self) -> str:
        return f"{self.kind}/{self.model}/revisions/{self.number}"


def check_alias(alias: str) -> str:
    """The alias, or InvalidInput. The set is closed: a new epoch affirms every alias there can be."""
    if alias not in ALIASES:
        raise InvalidInput.field("alias", f"must be one of {', '.join(ALIASES)}")
    return alias


@dataclass(frozen=True)
class FileHash:
    """What a file of a revision must be: its SHA-256 in hex and its size in bytes."""

    sha256: str
    size: int


def content_digest(files: Mapping[str, FileHash]) -> str:
    """SHA-256 in hex over the names, hashes and sizes of a folder's files."""
    lines = [f"{path}\0{entry.sha256}\0{entry.size}\n" for path, entry in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class Lineage:
    """Where a revision came from and how good it was: the part of a manifest that its maker knows.

    `parent` is a number of the same model, `reward_revision` a full name, `example_sequence` the last example its data
    held. `details` is free text by key (tokenizer_sha256, the example ids of a step); never prompts.
    """

    epoch: int = 0
    parent: int | None = None
    reward_revision: str | None = None
    example_sequence: int = 0
    step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bad := [key for key, value in self.metrics.items() if not math.isfinite(value)]:
            raise InvalidInput.field("metrics", f"must be finite numbers: {', '.join(sorted(bad))}")
        if self.reward_revision is not None:
            RevisionName.parse(self.reward_revision)


@dataclass(frozen=True, kw_only=True)
class Manifest(Lineage):
    """Everything the registry says of a revision. `create_time` is seconds since the Unix epoch."""

    name: RevisionName
    create_time: float
    files: Mapping[str, FileHash]

    @property
    def content_digest(self) -> str:
        """SHA-256 in hex over the names, hashes and sizes of the files: equal for equal content."""
        return content_digest(self.files)

    def to_json(self) -> bytes:
        return _dump(asdict(self) | {"name": str(self.name), "metrics": dict(self.metrics)})

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """RegistryCorrupt if this is not a manifest that to_json wrote."""
        return _reading("manifest", lambda: cls._from_fields(_object(json.loads(data))))

    @classmethod
    def _from_fields(cls, fields: dict[str, Any]) -> Manifest:
        files = {
            _relative_path(path): FileHash(_matching(_SHA256, entry["sha256"]), _integer(entry["size"]))
            for path, entry in _object(fields["files"]).items()
        }
        return cls(
            name=RevisionName.parse(_text(fields["name"])),
            parent=_optional(_integer, fields["parent"]),
            reward_revision=_optional(_text, fields["reward_revision"]),
            example_sequence=_integer(fields["example_sequence"]),
            epoch=_integer(fields["epoch"]),
            step=_integer(fields["step"]),
            create_time=_number(fields["create_time"]),
            metrics={_text(key): _number(value) for key, value in _object(fields["metrics"]).items()},
            details={_text(key): _text(value) for key, value in _object(fields["details"]).items()},
            files=files,
        )


@dataclass(frozen=True)
class AliasRecord:
    """One move of an alias: since `time`, `alias` has meant revision `number`; it meant `previous` before.

    Number 0 means no revision: what a new epoch writes for an alias that was never set. Of the records of one alias the
    one with the highest (epoch, sequence) counts. `previous` is the last *other* revision, so that re-affirming an
    alias does not hide where a rollback leads.
    """

    alias: str
    epoch: int
    sequence: int
    number: int
    previous: int | None
    time: float
    actor: str
    reason: str

    @property
    def position(self) -> tuple[int, int]:
        return self.epoch, self.sequence

    def to_json(self) -> bytes:
        return _dump(asdict(self))

    @classmethod
    def from_json(cls, data: bytes) -> AliasRecord:
        """RegistryCorrupt if this is not a record that to_json wrote, such as a torn file."""
        return _reading("alias record", lambda: cls._from_fields(_object(json.loads(data))))

    @classmethod
    def _from_fields(cls, fields: dict[str, Any]) -> AliasRecord:
        return cls(
            alias=check_alias(_text(fields["alias"])),
            epoch=_integer(fields["epoch"]),
            sequence=_integer(fields["sequence"]),
            number=_integer(fields["number"]),
            previous=_optional(_integer, fields["previous"]),
            time=_number(fields["time"]),
            actor=_text(fields["actor"]),
            reason=_text(fields["reason"]),
        )


def _dump(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, indent=1, allow_nan=False).encode() + b"\n"


def _reading(what: str, parse: Callable[[], T]) -> T:
    try:
        return parse()
    except (ValueError, KeyError, TypeError, RecursionError, InvalidInput) as error:
        raise RegistryCorrupt(f"this is no {what}: {type(error).__name__}: {error}") from None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, not {type(value).__name__}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, not {type(value).__name__}")
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"expected an integer from 0, not {value!r}")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise TypeError(f"expected a finite number, not {value!r}")
    return float(value)


def _optional(parse: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else parse(value)


def _matching(pattern: re.Pattern[str], value: Any) -> str:
    if not pattern.fullmatch(_text(value)):
        raise ValueError(f"{value!r} is not of the form {pattern.pattern}")
    return value


def _relative_path(path: str) -> str:
    """A manifest must not make a reader write outside its folder."""
    parts = path.split("/")
    if not path or "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{path!r} is no relative path")
    return path
