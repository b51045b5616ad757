"""Outputs stay in the results folder: no job writes or deletes through a link that lies inside of it.

The results folder may be a link, and so may a folder directly below it (`stores` on another disk, say).
"""

import os
import shutil
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

from ctssl.errors import ConfigError
from ctssl.jobs.status import BOXES, STAGES

FOLDERS = (
    *(
        "atlas",
        "by",
        "cache",
        "confounding",
        "curves",
        "features",
        "figures",
        "logs",
        "packed",
        "predictions",
        "probes",
        "quality",
        "runs",
        "splits",
        "tables",
    ),
    *STAGES,
    *BOXES,
)
"""Directly below the results: what jobs write into."""

FILES = ("failures.csv", "scans.csv")
PAGES = {
    "pairs": ("tables/pairs.csv", "tables/pairs.md"),
    "curves": ("tables/curves.csv", "figures/curves.png"),
    "confounding": ("tables/confounding.csv", "tables/confounding.md"),
    "paper": ("tables/paper.csv", "tables/paper.md", "tables/paper.tex"),
}
"""Pages beside tables/probes.md that a config may ask for or not; and by-{column}."""

_TOLD = 5


def check(results: Path) -> None:
    """Nothing, when whatever a job writes below this folder stays there.

    Raises:
        ConfigError: a link leads elsewhere, or to nothing.
    """
    for place in (results, *(results / name for name in FOLDERS)):
        if place.is_symlink() and not place.exists():
            raise ConfigError(
                f"{place} is a link to {place.readlink()}, which does not exist",
                "mount the disk that it leads to, or remove the link",
            )
    found = list(islice(_links(results), _TOLD))
    if found:
        raise ConfigError(
            "outputs would leave the results folder through links:\n  "
            + "\n  ".join(f"{link} -> {link.readlink()}" for link in found),
            "remove these links; to keep results on another disk, let the whole results folder be a link, "
            "or a folder directly below it",
        )


def remove(path: Path) -> None:
    """Nothing; file, folder or link are gone, and what a link pointed to stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_unasked(results: Path, asked: Collection[str]) -> list[Path]:
    """The files that were removed: pages that nothing brings up to date any more.

    Of pages by-{column} those that this workflow wrote, whose folds are in splits/; files of others stay.

    Args:
        results: folder of the study.
        asked: names of the pages that the config asks for, as in PAGES, or by-{column}.
    """
    left_out = [folds.stem for folds in sorted((results / "splits").glob("by-*.csv"))]
    pages = PAGES | {name: (f"tables/{name}.csv", f"tables/{name}.md") for name in left_out}
    paths = [results / file for name, files in pages.items() if name not in asked for file in files]
    gone = [path for path in paths if path.is_file() or path.is_symlink()]
    for path in gone:
        remove(path)
    return gone


def _links(results: Path) -> Iterator[Path]:
    """The links through which a job would write elsewhere."""
    home = os.path.realpath(results)
    yield from (link for name in FILES if (link := results / name).is_symlink() and _leaves(link, home))
    for name in FOLDERS:
        place = results / name
        if place.is_dir():
            # A scan's folder is removed as a whole before a job writes: what is in it does not matter.
            links = _inside(place, deep=name not in STAGES | BOXES)
            yield from (link for link in links if _leaves(link, home, os.path.realpath(place)))


def _inside(folder: Path, *, deep: bool) -> Iterator[Path]:
    """The links in a folder; `deep`: in the folders below it, too."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                yield Path(entry.path)
            elif deep and entry.is_dir():
                yield from _inside(Path(entry.path), deep=deep)


def _leaves(link: Path, *homes: str) -> bool:
    """Whether a link leads out of all these folders; links of git-annex, say, stay in the results."""
    return not any(os.path.realpath(link).startswith(home + os.sep) for home in homes)
