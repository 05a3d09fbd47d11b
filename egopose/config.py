"""Configuration: frozen msgspec structs over flat YAML; unknown keys are refused with their path."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from egopose.errors import EgoposeError
from egopose.files import parse_yaml, read_text

T = TypeVar("T")


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every configuration."""


def preset_names() -> list[str]:
    """Names of the YAML presets that come with the package."""
    folder = resources.files("egopose.configs")
    return sorted(item.name[: -len(".yaml")] for item in folder.iterdir() if item.name.endswith(".yaml"))


def read_yaml(path_or_preset: str | Path) -> tuple[dict[str, Any], str]:
    """Read a YAML mapping from a file or, failing that, from the preset of that name.

    Returns:
        The mapping and where it came from.

    Raises:
        EgoposeError: Neither exists, or it is not a YAML mapping.
    """
    path = Path(path_or_preset)
    name = path.name.removesuffix(".yaml")
    if path.suffix in (".yaml", ".yml") and path.exists():
        text, where = read_text(path, max_bytes=1 << 20), str(path)
    elif name in preset_names():
        text, where = (
            (resources.files("egopose.configs") / f"{name}.yaml").read_text(encoding="utf-8"),
            f"preset {name}",
        )
    else:
        raise EgoposeError(
            f"{path_or_preset}: neither a YAML file nor a preset; presets are: {', '.join(preset_names()) or 'none'}"
        )
    value = parse_yaml(text, where)
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise EgoposeError(f"{where}: holds a {type(value).__name__}; expected a mapping of settings")
    return value, where


def load_config(kind: type[T], source: str | Path | None = None, **overrides: Any) -> T:
    """Read and check a configuration.

    Args:
        kind: A :class:`Config` struct.
        source: YAML file or preset name; None takes the defaults.
        overrides: Fields that win over the file.

    Raises:
        EgoposeError: A key is unknown or a value has the wrong type; the message gives its path.
    """
    values, where = ({}, "settings") if source is None else read_yaml(source)
    return convert_config(kind, {**values, **overrides}, where)


def convert_config(kind: type[T], values: dict[str, Any], where: str = "settings") -> T:
    """Check a mapping against a configuration struct.

    Raises:
        EgoposeError: As :func:`load_config`.
    """
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise EgoposeError(f"{where}: {error}") from error
    except UnicodeError as error:
        raise EgoposeError(f"{where}: holds text that is no text ({error.reason})") from error  # type: ignore[attr-defined]


def config_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain builtins, for provenance and files."""
    return msgspec.to_builtins(config)


def config_hash(config: Any) -> str:
    """A short stable hash of a configuration."""
    return hashlib.sha256(msgspec.json.encode(config, order="deterministic")).hexdigest()[:16]
