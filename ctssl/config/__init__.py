"""The typed configuration; the only reader of YAML. Imports neither torch nor ants nor zarr."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import Repr
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ctssl.config.base import nearest
from ctssl.config.baselines import BASELINES, BaselineOptions
from ctssl.config.methods import OPTIONS, MethodOptions
from ctssl.config.study import Config
from ctssl.errors import ConfigError

__all__ = ["DEFAULTS", "Config", "check", "check_file", "read"]

DEFAULTS = Path(__file__).parents[2] / "config.yaml"
"""The production defaults at the workflow's root."""

_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = (
    2,
    80,
    80,
)  # aliases may make a value that fills the screen


def check(values: Mapping[str, Any]) -> Config:
    """The configuration as typed sections.

    Raises:
        ConfigError: lists every fault with the path of its key.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc'])) or 'config'}: {_what(e)}" for e in error.errors()]
        shown = faults[:30] + ([f"and {len(faults) - 30} more"] if len(faults) > 30 else [])
        raise ConfigError(
            "the configuration has faults:\n  " + "\n  ".join(shown),
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


def check_file(path: Path) -> None:
    """Nothing, when a file of settings holds what it seems to: Snakemake takes the last of two equal keys.

    Raises:
        ConfigError: no YAML, or with tags, templates, or a key that comes twice.
    """
    if path.suffix.lower() != ".json":
        _yaml(path)


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that comes twice."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value if key.tag == "tag:yaml.org,2002:str"]
            twice = {key for key in keys if keys.count(key) > 1}
            if twice:
                raise yaml.constructor.ConstructorError(
                    None, None, f"a key comes twice: {', '.join(sorted(twice))}", node.start_mark
                )
            return super().construct_mapping(node, deep)

    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (OSError, RecursionError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is not a readable YAML file: {_why(error)}", "correct the file") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} should hold keys and values", "see config.yaml at the workflow's root")
    if "__use_yte__" in values:
        raise ConfigError(f"{path} is a YTE template, which runs code", "give plain keys and values")
    return values


def _why(error: Exception) -> str:
    """What is wrong with a file, and on which line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    mark = getattr(error, "problem_mark", None)  # of most errors of YAML
    return f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else str(error)


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif value != {} or key not in into:  # an empty dict changes nothing
            into[key] = value


def _what(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        *sections, key = fault["loc"]
        others = [known for known in _keys(sections) if known != key]  # another method may have it
        return "there is no such key" + nearest(str(key), others)
    if fault["type"] == "missing":
        return "this key is missing"
    message = str(fault["msg"]).removeprefix("Value error, ")
    if isinstance(fault["input"], Mapping):  # of a whole section the message names the keys
        return message
    return f"{message} (got {_SHORT.repr(fault['input'])})"


def _keys(sections: Sequence[Any]) -> list[str]:
    """The keys below a path of sections; numbers in the path are places in a list."""
    models: list[type[BaseModel]] = [Config]
    for name in (section for section in sections if isinstance(section, str)):
        types = [model.model_fields[name].annotation for model in models if name in model.model_fields]
        kinds = [kind for union in types for kind in (union, *get_args(union))]
        models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        models = list(OPTIONS.values()) if models == [MethodOptions] else models
        models = list(BASELINES.values()) if models == [BaselineOptions] else models
    return [key for model in models for key in model.model_fields]
