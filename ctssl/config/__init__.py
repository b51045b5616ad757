"""The typed configuration; the only reader of YAML. Imports neither torch nor ants nor zarr."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ctssl.config.study import Config
from ctssl.errors import ConfigError

__all__ = ["DEFAULTS", "Config", "check", "read"]

DEFAULTS = Path(__file__).parents[2] / "config.yaml"
"""The production defaults at the workflow's root."""


def check(values: Mapping[str, Any]) -> Config:
    """The configuration as typed sections.

    Raises:
        ConfigError: lists every fault with the path of its key.
    """
    try:
        return Config.model_validate(dict(values))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc'])) or 'config'}: {_what(e)}" for e in error.errors()]
        raise ConfigError(
            "the configuration has faults:\n  " + "\n  ".join(faults),
            "compare the keys with config.yaml at the workflow's root, which lists them all",
        ) from error


def read(*overlays: Path) -> Config:
    """The defaults overlaid by YAML files: dicts merge, lists and values replace, as Snakemake does.

    Raises:
        ConfigError: a file cannot be read as YAML, or a key or value is wrong.
    """
    values: dict[str, Any] = {}
    for path in (DEFAULTS, *overlays):
        _merge(values, _yaml(path))
    return check(values)


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is not a readable YAML file: {error}", "correct the file") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} should hold keys and values", "see config.yaml at the workflow's root")
    return values


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif value != {} or key not in into:  # an empty dict changes nothing
            into[key] = value


def _what(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such key"
    if error["type"] == "missing":
        return "this key is missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    if isinstance(error["input"], Mapping):  # of a whole section the message names the keys
        return message
    return f"{message} (got {error['input']!r})"
