"""The jobs that compare rows, and that measure what few labels are worth."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ctssl import settings as stage_settings
from ctssl.config.evaluation import Target
from ctssl.errors import CohortError
from ctssl.escaping import in_csv
from ctssl.jobs.probes import labelled_cases
from ctssl.jobs.rows import read_features

if TYPE_CHECKING:
    import pandas as pd


def pairs(text: str, probes: Sequence[Path], csv: Path, markdown: Path) -> None:
    """Write how much all rows differ from one of them.

    Args:
        text: the rule's settings.
        probes: results, probes/{row}/{target}.json, with predictions beside them.
        csv: to write.
        markdown: to write.
    """
    from ctssl.evaluate.pairs import pairs_table, write_pairs

    settings = stage_settings.parse("pairs", text)
    targets = [Target(**target) for target in settings["targets"]]
    alone = settings.get("scans_of_subject", "all") != "all"
    files = {(path.parent.name, path.stem): path.with_suffix(".csv") for path in probes}
    rows = {
        title: {
            target.name: [
                table
                for seed in seeds
                if len(table := _predictions(files[f"{name}_seed{seed}_{part}", target.name], target, alone))
            ]
            for target in targets
            if asked is None or target.name in asked
        }
        for title, name, seeds, part, asked in settings["rows"]
    }
    write_pairs(pairs_table(rows, settings["reference"], targets), settings["reference"], csv, markdown)


def curve(text: str, features: Path, splits: Path, out: Path) -> None:
    """Write what one table of features says of one target, by share of the training subjects.

    Args:
        text: the rule's settings.
        features: of all scans.
        splits: the folds of the first split.
        out: to write.
    """
    from ctssl.evaluate.curves import curve as measure
    from ctssl.evaluate.curves import write_curve
    from ctssl.evaluate.splits import read_splits

    settings = stage_settings.parse("curve", text)
    cases, _ = labelled_cases(settings, read_features(features))
    target, folds = Target(**settings["target"]), read_splits(splits)
    how = {"shares": settings["shares"], "draws": settings["draws"]}
    found = measure(cases.features, cases.labels, folds, target, step=cases.step, notes=cases.notes, **how)
    write_curve(out, found)


def curves(text: str, found: Sequence[Path], csv: Path, figure: Path) -> None:
    """Write the table and the figure of all curves, curves/{row}/{target}.json."""
    from ctssl.evaluate.curves import curves_table, read_curve
    from ctssl.evaluate.figures_curves import curves_figure

    settings = stage_settings.parse("curves", text)
    files = {(path.parent.name, path.stem): path for path in found}
    rows = {
        title: {
            target: {f"seed{seed}": read_curve(files[f"{name}_seed{seed}_{part}", target]) for seed in seeds}
            for target in settings["targets"]
        }
        for title, name, seeds, part in settings["rows"]
    }
    table = curves_table(rows)
    csv.parent.mkdir(parents=True, exist_ok=True)
    table.map(in_csv).to_csv(csv, index=False)
    curves_figure(table, settings["targets"], figure)


def _predictions(path: Path, target: Target, alone: bool) -> "pd.DataFrame":
    """The predictions that `write_probe` wrote; a scan that stands `alone` for its subject has its name.

    Which one stands for a subject depends on the scans that a row has features of.

    Raises:
        CohortError: the file holds none.
    """
    import pandas as pd

    kind = str if target.task == "classify" else float
    types = {"scan": str, "subject": str, "truth": kind, "prediction": kind, "repeat": int}
    try:  # a class may be called null: no text stands for a missing value
        table = pd.read_csv(path, dtype=types, keep_default_na=False)
        needed = [*types, *(["null"] if target.task == "regress" and len(table) else [])]
        return table.assign(scan=table.subject)[needed] if alone else table[needed]
    except (OSError, ValueError, KeyError) as error:
        raise CohortError(
            f"{path} holds no predictions: {error}", "delete it and run the workflow"
        ) from error
