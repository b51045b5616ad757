"""Tables of the results: csv files of rows, which the jobs of the cohort write and read, and features."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctssl.cards import open_file
from ctssl.errors import CohortError, ManifestError
from ctssl.escaping import in_csv
from ctssl.manifest import Manifest

if TYPE_CHECKING:
    import pandas as pd

_ANEW = "delete it and run the same snakemake command"


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table, column -> text."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def some_rows(scans: Path) -> list[dict[str, str]]:
    """The rows of the cohort's table of scans.

    Raises:
        CohortError: there is none.
    """
    rows = read_rows(scans)
    if not rows:
        raise CohortError("no scan has a patch store", "failures.csv and `ctssl status` say why")
    return rows


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Write these columns of the rows; what a row lacks, and None, stays empty.

    Names of files that are not UTF-8 have their strange bytes written as escapes.
    """
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows({key: in_csv(value) for key, value in row.items()} for row in rows)


def check_unchanged(then: str, now: str, manifest: Manifest) -> None:
    """Nothing, when what a job takes from the manifest is what its settings hold a digest of.

    Raises:
        ManifestError: it is not.
    """
    if then != now:
        raise ManifestError(
            f"{manifest.path} changed since the workflow was started", "run the same command again"
        )


def read_features(path: Path, advice: str = _ANEW) -> "pd.DataFrame":
    """A table of features; what `write_table` said of it is in its attrs.

    Raises:
        CohortError: the file holds none; `advice` says what to do.
    """
    import pandas as pd
    from pyarrow import ArrowException

    try:
        with open_file(path) as file:
            data = io.BytesIO(file.read())
    except ValueError as error:
        raise CohortError(f"{path} holds no features: {error}", advice) from error
    try:
        table = pd.read_parquet(data, page_checksum_verification=True)
        if not {"scan", "subject"} <= set(table.columns):
            raise ValueError("it has no columns scan and subject")
    except (ArrowException, OSError, ValueError, TypeError, KeyError) as error:  # arrow's words on damage
        raise CohortError(f"{path} holds no features: {error}", advice) from error
    return table
