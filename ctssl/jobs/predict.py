"""Jobs of final probes: fitting them on all labels, and what they say of scans that have none."""

from pathlib import Path
from typing import TYPE_CHECKING

from ctssl import settings as stage_settings
from ctssl.config.study import Target
from ctssl.errors import ConfigError
from ctssl.escaping import in_csv
from ctssl.files import write_whole
from ctssl.jobs.rows import check_unchanged
from ctssl.jobs.study import read_features
from ctssl.log import tell
from ctssl.manifest import read_manifest

if TYPE_CHECKING:
    import pandas as pd


def predict(text: str, features: Path, splits: Path, out: Path) -> None:
    """Write the fitted probe of one target, and beside it (.csv) what it says of scans without a label."""
    from ctssl.evaluate.labels import read_labels
    from ctssl.evaluate.predictor import fit_predictor
    from ctssl.evaluate.probe_file import write_no_predictor, write_predictor
    from ctssl.evaluate.splits import read_splits

    settings = stage_settings.parse("predict", text)
    target, manifest = Target(**settings["target"]), read_manifest(Path(settings["manifest"]), images=False)
    column = manifest.column(target.column)
    check_unchanged(settings["labels"], stage_settings.label_digest(column), manifest)
    table, labels = read_features(features), read_labels(column, target)
    asked = table[~table.scan.isin(labels.index)]
    if len(asked) == len(table):
        said = f"column {target.column} has no label of a scan with features, so nothing is predicted"
        _write_predictions(out.with_suffix(".csv"), asked[["scan", "subject"]].assign(prediction=""))
        write_no_predictor(out, target, said)
    else:
        fitted = fit_predictor(table, labels, read_splits(splits), target)
        said = fitted.note
        _write_predictions(out.with_suffix(".csv"), fitted.predict(asked))
        write_predictor(out, fitted)
    if said:
        tell(f"predict {target.name}: {said}")


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
