"""Where a study writes, and that nothing it reads lies there: Snakemake removes outputs before a job."""

import os
from collections.abc import Iterator
from pathlib import Path

from ctssl.config import Config
from ctssl.errors import ConfigError
from ctssl.manifest import Manifest
from ctssl.settings import atlas_files

_SHOWN = 5


def check(config: Config, manifest: Manifest) -> None:
    """Nothing, when the results have a folder of their own.

    Raises:
        ConfigError: the results would be written over the manifest, an image, a mask or the atlas's files; or
            into the folder of an image, which would be another image after each run.
    """
    results = config.results
    if results.exists() and not results.is_dir():
        raise ConfigError(f"results is {results}, which is a file", "name a folder")
    if os.path.realpath(results / "scans.csv") == os.path.realpath(manifest.path):
        raise ConfigError(
            f"results is {results}, where a table of the results would be written over {manifest.path}",
            "give the results a folder of their own",
        )
    ours = {_folder(results), _folder(Path(os.path.realpath(results)))}
    found = [what for what, path in _read(config, manifest) if _meets(_folder(path), ours)]
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ConfigError(
            f"results is {results}, in one place with {', '.join(found[:_SHOWN])}{more}",
            "give the results a folder of their own, which holds nothing that is read and lies in no image",
        )


def _folder(path: Path) -> str:
    """An absolute path with one '/' at its end. Links are not followed: that would take seconds."""
    return os.path.normpath(path.absolute()).rstrip("/") + "/"


def _meets(path: str, ours: set[str]) -> bool:
    return any(path.startswith(folder) or folder.startswith(path) for folder in ours)


def _read(config: Config, manifest: Manifest) -> Iterator[tuple[str, Path]]:
    """What a study reads: its name for a person, and its path."""
    if config.prepared is not None:
        return
    for key, path in atlas_files(config.atlas).items():
        yield f"atlas.{key}", path
    for row in manifest.rows:
        for what, image in (("image", row.image), ("mask", row.mask)):
            if image is not None:
                yield f"the {what} of {row.scan}", image
