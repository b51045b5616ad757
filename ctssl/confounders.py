"""Confounders of the config: columns of the manifest, or what the files of the scans say.

Snakemake's side of the project reads this too, so nothing heavy is imported here.
"""

from ctssl.config import Config
from ctssl.errors import ManifestError
from ctssl.manifest import Manifest

MEASURED = ("kernel", "scanner", "slice_thickness_mm", "slice_mm")
"""What the files of the scans say: all but the last of DICOM alone; the last is the largest spacing."""


def check(config: Config, manifest: Manifest) -> None:
    """Nothing, when every confounder is a column of the manifest or one of MEASURED.

    Raises:
        ManifestError: one is neither, or was not measured as the stores were made elsewhere.
    """
    for chosen in config.evaluation.confounders:
        if is_measured(manifest, chosen.column) and config.prepared is not None:
            raise ManifestError(
                f"confounder {chosen.column} is not a column of {manifest.path}, and of stores that were "
                "prepared elsewhere nothing is known of the scans' files",
                "add the column, or take it out of evaluation.confounders",
            )
        if not is_measured(manifest, chosen.column):
            manifest.column(chosen.column, "evaluation.confounders")


def is_measured(manifest: Manifest, column: str) -> bool:
    """Whether a confounder is what the scans' files say: a column of the manifest comes first."""
    return column in MEASURED and column not in manifest.label_columns
