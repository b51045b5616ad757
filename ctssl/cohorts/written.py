"""What a study starts from: scans.csv and config.yaml, in a folder that has neither."""

import csv
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote

from ctssl.errors import ManifestError

_SHOWN = 10
ROOT = Path(__file__).parents[2]
Row = Mapping[str, str | Path]
"""Column -> cell."""

LEADING = ("scan", "subject", "image", "mask", "exclude", "exclude_reason")
"""Columns that every table begins with; labels follow."""


def check_free(to: Path) -> None:
    """Nothing, where neither file is there yet.

    Raises:
        ManifestError: one would be overwritten.
    """
    there = [str(path) for path in _files(to) if path.exists()]
    if there:
        raise ManifestError(f"{' and '.join(there)} exist already", "give a new folder with --to my-study")


def write_files(to: Path, labels: Sequence[str], rows: Sequence[Row], config: str) -> tuple[Path, str]:
    """The path of the table, and the command that runs the study; writes both files.

    Args:
        to: the folder they go into.
        labels: columns after the leading ones.
        rows: column -> cell, one row a scan; a column that is not there is left empty.
        config: YAML with a line `manifest:` and a line `results:`, which get their paths. Paths of an atlas
            that comes with the project are made whole, so that the study runs from any folder.

    Raises:
        ManifestError: a file would be overwritten, or the study would lie inside a scan.
    """
    check_free(to)
    table, settings = _files(to)
    study = os.path.realpath(table)
    around = [row["image"] for row in rows if study.startswith(os.path.realpath(row["image"]) + os.sep)]
    if around:
        raise ManifestError(
            f"the study would lie in {around[0]}, which is a scan", "give another folder with --to"
        )
    paths = {"manifest": table, "results": table.parent / "results"}
    for key, path in paths.items():
        config = _with(config, key, path)
    for relative in re.findall(r"^  (?:mask|landmarks): (atlases/\S+)", config, re.MULTILINE):
        config = config.replace(f": {relative}", f": {as_yaml(ROOT / relative)}", 1)
    to.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*LEADING, *labels])
        writer.writerows([row.get(column, "") for column in (*LEADING, *labels)] for row in rows)
    settings.write_text(config, encoding="utf-8")
    return table, (
        f"snakemake --snakefile {quote(str(ROOT / 'Snakefile'))} --cores 8 --resources gpu=1"
        f" --configfile {quote(str(settings))}"
    )


def protocol(name: str, without: Sequence[str] = ()) -> str:
    """The text of config/{name}.yaml, less what needs one of these columns: targets, baselines, a stratum."""
    text = (ROOT / f"config/{name}.yaml").read_text(encoding="utf-8")
    for column in without:
        item = rf"^ +- \{{.*\b(column: {column}\b|columns: \[[^]]*\b{column}\b).*\n"
        text = re.sub(item, "", text, flags=re.MULTILINE)
        text = re.sub(rf"^  stratify: {column}$", "  stratify: null", text, flags=re.MULTILINE)
    return text


def listed(faults: Sequence[str]) -> str:
    """Faults as lines of a message, not more than a screen takes."""
    more = [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
    return "".join(f"\n  {fault}" for fault in [*faults[:_SHOWN], *more])


def as_yaml(path: Path) -> str:
    """A path as a value of YAML."""
    import yaml

    return yaml.safe_dump(str(path), width=10000).strip().removesuffix("...").strip()


def _with(config: str, key: str, path: Path) -> str:
    """The config with this path as the value of a key at its top."""
    line = re.compile(rf"^{key}: .*$", re.MULTILINE)
    return line.sub(lambda _: f"{key}: {as_yaml(path)}", config, count=1)


def _files(to: Path) -> tuple[Path, Path]:
    """Table and config."""
    return (to / "scans.csv").absolute(), (to / "config.yaml").absolute()
