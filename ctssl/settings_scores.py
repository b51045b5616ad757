"""The settings of comparisons and of curves over few labels; as those of ctssl.settings."""

from ctssl.config import Config
from ctssl.manifest import Manifest
from ctssl.settings import text_of
from ctssl.settings_probes import asked
from ctssl.settings_tables import rows_of


def pairs(config: Config) -> str:
    """Settings of the comparisons: rows and targets in order, and the row that others are compared with."""
    rows, name = rows_of(config), config.evaluation.reference
    reference = next(title for title, row, *_ in rows if name in (None, row))
    targets = [target.model_dump(mode="json") for target in config.evaluation.targets]
    how = config.evaluation.scans_of_subject
    alone = {} if how == "all" else {"scans_of_subject": how}
    return text_of("pairs", rows=rows, targets=targets, reference=reference, **alone)


def curve(config: Config, manifest: Manifest, target: str) -> str:
    """Settings of a curve; they hold a digest of the labels."""
    chosen = config.evaluation
    how = {"shares": list(chosen.label_shares), "draws": chosen.label_draws}
    return text_of("curve", **asked(config, manifest, target), **how)


def curves(config: Config) -> str:
    """Settings of the table and the figure of curves: rows that have features, and targets."""
    return text_of(
        "curves",
        rows=[row[:4] for row in rows_of(config) if row[3] == "all"],
        targets=curved(config),
    )


def curved(config: Config) -> list[str]:
    """The names of the targets that curves are made of: not of times, which few subjects say little of."""
    return [target.name for target in config.evaluation.targets if target.task != "survive"]
