"""Final probes: fitting them on all labels, and what they say of scans that have none."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ctssl.config.evaluation import Target
from ctssl.errors import CohortError, ConfigError
from ctssl.escaping import in_csv
from ctssl.files import write_whole
from ctssl.jobs.rows import read_features
from ctssl.log import tell

if TYPE_CHECKING:
    import pandas as pd

    from ctssl.evaluate.cases import Cases


def write_final(
    out: Path,
    cases: "Cases",
    asked: "pd.DataFrame",
    folds: Mapping[str, int],
    target: Target,
) -> None:
    """Nothing; writes the probe of all labelled scans, and beside it (.csv) what it says of the others.

    Where there is no probe, the file says why, and no scan gets a prediction.

    Args:
        out: file of the probe.
        cases: features and labels to fit on. With a step, which makes the features inside the folds
            (ctssl.evaluate.handmade.steps), no file holds such a probe.
        asked: columns scan, subject, f000 ... of scans without a label.
        folds: subject -> fold.
        target: names the task.
    """
    from ctssl.evaluate.predictor import fit_predictor
    from ctssl.evaluate.probe_file import write_no_predictor, write_predictor

    if said := _why_none(cases, target):
        found = asked[["scan", "subject"]].assign(prediction="")
        write_no_predictor(out, target, said)
    else:
        fitted = fit_predictor(cases.features, cases.labels, folds, target)
        fitted = replace(fitted, note="; ".join(words for words in (*cases.notes, fitted.note) if words))
        said, found = fitted.note, fitted.predict(asked)
        try:
            write_predictor(out, fitted)
        except CohortError as error:  # the job's other results are as good as ever
            said = error.message
            write_no_predictor(out, target, said)
    _write_predictions(out.with_suffix(".csv"), found)
    if said:
        tell(f"final probe of {target.name}: {said}")


def _why_none(cases: "Cases", target: Target) -> str:
    """Why there is no probe to keep; "" when there is."""
    if target.task == "survive":
        return "risks of a Cox regression order the subjects of one study, so no probe is kept"
    if cases.step is not None:
        return (
            "its features are fitted inside the folds, so there is no probe to keep and nothing is predicted"
        )
    if not cases.features.scan.isin(cases.labels.index).any():
        return f"column {target.column} has no label of a scan with features, so nothing is predicted"
    return ""


def apply_probe(features: Path, probe: Path, out: Path) -> str:
    """A line about what was written: what a probe that was fitted elsewhere says of scans, as csv.

    Raises:
        WeightsError, CohortError: a file holds no probe or no features, or they do not belong together.
        ConfigError: one of them would be written over.
    """
    from ctssl.evaluate.probe_file import read_predictor

    if out.resolve() in (features.resolve(), probe.resolve()):
        raise ConfigError(f"{out} is read, and would be written over", "name another file with --out")
    fitted, table = read_predictor(probe), read_features(features, "make them with `ctssl embed`")
    if not (fitted.made_by and table.attrs.get("made_by")):
        tell("whether the probe was fitted on features of these weights, the files do not say")
    found = fitted.predict(table)
    _write_predictions(out, found)
    far = int((found.far == "yes").sum())
    return f"{fitted.target.name} of {len(found)} scans, {far} of them far from the training scans: {out}"


def _write_predictions(out: Path, found: "pd.DataFrame") -> None:
    write_whole(out, found.map(in_csv).to_csv(index=False, lineterminator="\n").encode())
