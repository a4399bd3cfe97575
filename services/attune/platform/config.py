"""Settings of a process: one frozen pydantic class a service, filled from flags > environment > TOML file > defaults.

A flag is `--set rollouts.prompts=64`; the same in the environment is ATTUNE_TRAINER_ROLLOUTS__PROMPTS=64, and in the
file `[rollouts] prompts = 64`. Unknown keys are refused at every level, with what was probably meant; an unknown
ATTUNE_ variable is only warned about, for it may be another program's. Secrets come from the environment or files,
never from flags, and are typed SecretStr so that they are not printed.
"""

from __future__ import annotations

import difflib
import logging
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from attune.domain.errors import ConfigurationInvalid

log = logging.getLogger(__name__)
ENVIRONMENT_PREFIX = "ATTUNE_"
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
LogLevel = Literal["debug", "info", "warning", "error"]


class Section(BaseModel):
    """A group of settings: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class ServiceSettings(Section):
    """The settings of one service; `service` names it in variables, such as "trainer"."""

    service: ClassVar[str] = ""


class AppPort(Section):
    """Where apps call."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(0, ge=0, le=65535, description="Port; 0 takes a free one.")
    max_connection_age_s: float = Field(1800.0, gt=0, description="A connection is made anew after so long.")


class ControlPort(Section):
    """Where operators and the other services call."""

    host: str = Field("127.0.0.1", description="Address to listen on; beyond loopback it needs keys_file.")
    port: int = Field(0, ge=0, le=65535, description="Port; 0 takes a free one.")


@dataclass(frozen=True)
class Setting:
    """One line of a settings listing: its dotted key, type, default and meaning."""

    key: str
    type: str
    default: str
    description: str


S = TypeVar("S", bound=ServiceSettings)


def load_settings(
    cls: type[S],
    flags: Sequence[str] = (),
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    known_services: Sequence[str] = (),
) -> S:
    """The settings from all sources. ConfigurationInvalid names the key and the source that holds a bad value.

    `flags` are KEY=VALUE strings; `known_services` are those whose variables are not warned about.
    """
    values: dict[str, Any] = {}
    for source in (
        _from_file(config) if config else {},
        _from_environment(cls, environ or {}, known_services),
        _from_flags(cls, flags),
    ):
        _merge(values, source)
    _refuse_unknown(cls, values)
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise ConfigurationInvalid("; ".join(_readable(e) for e in error.errors())) from None


def listing(cls: type[BaseModel], prefix: str = "", defaults: BaseModel | None = None) -> Iterator[Setting]:
    """Every setting by its dotted key, in order of declaration; `defaults` overrides those of a section's class."""
    for name, field in cls.model_fields.items():
        key = f"{prefix}{name}"
        default = getattr(defaults, name) if defaults else field.get_default(call_default_factory=True)
        if section := _section(field.annotation):
            yield from listing(section, f"{key}.", default if isinstance(default, BaseModel) else None)
            continue
        yield Setting(key, _type_name(field.annotation), str(default), field.description or "")


def _type_name(annotation: Any) -> str:
    """As people read it: the choices of a Literal or a union, else the name of the type."""
    choices = get_args(annotation)
    return "|".join(map(_type_name, choices)) if choices else str(getattr(annotation, "__name__", annotation))


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigurationInvalid(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationInvalid(f"{path} is not TOML: {error}") from None


def _from_environment(
    cls: type[ServiceSettings], environ: Mapping[str, str], services: Sequence[str]
) -> dict[str, Any]:
    """Variables of this service; those of nobody are warned about."""
    values: dict[str, Any] = {}
    own = f"{ENVIRONMENT_PREFIX}{cls.service.upper()}_"
    keys = {setting.key for setting in listing(cls)}
    known = tuple(f"{ENVIRONMENT_PREFIX}{service.upper()}_" for service in services if service != cls.service)
    for name, value in sorted(environ.items()):
        key = name.removeprefix(own).lower().replace("__", ".")
        if name.startswith(own) and key in keys:
            _put(values, key, value)
        elif name.startswith(ENVIRONMENT_PREFIX) and not name.startswith(known):
            log.warning("the environment variable %s is not a setting of %s and has no effect", name, cls.service)
    return values


def _from_flags(cls: type[ServiceSettings], flags: Sequence[str]) -> dict[str, Any]:
    """What flags say. A secret is refused there: others on the machine can read the arguments of a process."""
    values: dict[str, Any] = {}
    secrets = {setting.key for setting in listing(cls) if setting.type == SecretStr.__name__}
    for flag in flags:
        key, equals, value = flag.partition("=")
        if key.strip() in secrets:
            variable = f"{ENVIRONMENT_PREFIX}{cls.service}_{key.strip().replace('.', '__')}".upper()
            raise ConfigurationInvalid(f"{key.strip()} is a secret and no flag: set {variable}, or name a file")
        if not equals:
            raise ConfigurationInvalid(f'"{flag}" is no KEY=VALUE')
        _put(values, key.strip(), value)
    return values


def _put(values: dict[str, Any], key: str, value: str) -> None:
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigurationInvalid(f"{key}: {section} is a value and has no keys")
    values[last] = value


def _merge(values: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = value


def _refuse_unknown(cls: type[BaseModel], values: Mapping[str, Any]) -> None:
    keys = [setting.key for setting in listing(cls)]
    for key in _keys(cls, values):
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigurationInvalid(f"there is no setting {key}{hint}")


def _keys(cls: type[BaseModel], values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        field = cls.model_fields.get(key)
        section = _section(field.annotation) if field else None
        if section and isinstance(value, Mapping):
            yield from _keys(section, value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _section(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _readable(error: Any) -> str:
    return f"{'.'.join(str(part) for part in error['loc'])}: {error['msg'].removeprefix('Value error, ')}"
