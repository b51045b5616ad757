"""The jobs that write tables and figures of what all rows say."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctssl import settings as stage_settings
from ctssl.cards import read_card
from ctssl.config.evaluation import Target
from ctssl.errors import WeightsError
from ctssl.jobs import outputs
from ctssl.jobs.rows import read_features
from ctssl.log import tell
from ctssl.manifest import read_manifest

if TYPE_CHECKING:
    from ctssl.evaluate.transfer import Origin


def tables(
    text: str,
    probes: Sequence[Path],
    csv_path: Path,
    markdown: Path,
    about: Mapping[str, Any],
    asked: Collection[str] | None = None,
) -> None:
    """Write the result tables: one row a run or baseline, one column a target.

    Pages that the config no longer asks for are removed, since they do not go with these tables.

    Args:
        text: the rule's settings.
        probes: results, probes/{row}/{target}.json.
        csv_path: to write.
        markdown: to write.
        about: how the scans of the study are prepared, as `ctssl.preparation.about`.
        asked: names of all pages that the config asks for; None: not known, and nothing is removed.
    """
    from ctssl.evaluate.tables import write_tables

    settings = stage_settings.parse("tables", text)
    targets = [Target(**target) for target in settings["targets"]]
    results = _of_rows(settings["rows"], targets, _read(probes))
    write_tables(results, targets, csv_path, markdown, _origins(settings, about))
    if asked is not None:
        for path in outputs.remove_unasked(csv_path.parents[1], asked):
            tell(f"{path} is removed: the config does not ask for it any more")


def paper(
    text: str, probes: Sequence[Path], csv: Path, markdown: Path, latex: Path, about: Mapping[str, Any]
) -> None:
    """Write our figures in the layout of the paper's table, beside the published ones."""
    from ctssl.evaluate.published import PUBLISHED
    from ctssl.evaluate.tables_paper import write_paper

    settings = stage_settings.parse("paper", text)
    targets = [Target(**target) for target in settings["targets"]]
    results = _of_rows(settings["rows"], targets, _read(probes))
    origins = _origins(settings, about)
    write_paper(PUBLISHED[settings["published"]], results, origins, csv, markdown, latex)


def tables_by(text: str, probes: Sequence[Path], csv_path: Path, markdown: Path) -> None:
    """Write the tables of probes whose folds leave out one value of a column each, by/{column}/{row}/..."""
    from ctssl.evaluate.tables_by import write_by

    settings = stage_settings.parse("tables_by", text)
    targets = [Target(**target) for target in settings["targets"]]
    write_by(
        settings["column"], _of_rows(settings["rows"], targets, _read(probes)), targets, csv_path, markdown
    )


def confounding(text: str, probes: Sequence[Path], csv_path: Path, markdown: Path) -> None:
    """Write what features say of confounders, and what confounders alone say of targets.

    `probes` are confounding/{row}/{confounder}.json and confounding/alone/{confounder}/{target}.json.
    """
    from ctssl.evaluate.tables_confounding import write_confounding

    settings = stage_settings.parse("confounding", text)
    targets = [Target(**target) for target in settings["targets"]]
    names = [(one["name"], one["column"]) for one in settings["confounders"]]
    read = _read(probes)
    tasks = {path.stem: found["task"] for path, found in read.items() if path.parents[1].name != "alone"}
    # Of a study without rows of features, which nobody asks of confounders, no task is known.
    asked = [(name, column) for name, column in names if name in tasks]
    confounders = [Target(name=name, column=column, task=tasks[name]) for name, column in asked]
    alone = {
        f"{column} alone": {"": {target.name: _one(read, f"alone/{name}", target.name) for target in targets}}
        for name, column in names
    }
    about = _of_rows(settings["rows"], confounders, read)
    write_confounding(about, alone, confounders, targets, csv_path, markdown)


def figures(text: str, features: Sequence[Path], out: Path) -> None:
    """Write the map of the features of every run, coloured by the first target."""
    from ctssl.evaluate.figures import feature_maps
    from ctssl.evaluate.labels import read_labels

    settings = stage_settings.parse("figures", text)
    target, manifest = Target(**settings["target"]), read_manifest(Path(settings["manifest"]), images=False)
    # A time to an event is shown as the number it is, whether the event came or not.
    plain = {"log": False, "task": "regress" if target.task == "survive" else target.task}
    labels = read_labels(manifest.column(target.column), target.model_copy(update=plain))
    tables = {path.stem: path for path in features}
    panels = [(title, read_features(tables[row])) for title, row in settings["panels"]]
    feature_maps(panels, labels, target.name, out)


def _read(probes: Sequence[Path]) -> dict[Path, dict[str, Any]]:
    from ctssl.evaluate.probes import read_probe

    return {path: read_probe(path) for path in probes}


def _one(read: Mapping[Path, dict[str, Any]], folder: str, name: str) -> dict[str, Any]:
    """The result whose path ends in folder/name.json."""
    end = Path(folder, f"{name}.json").parts
    return next(found for path, found in read.items() if path.parts[-len(end) :] == end)


def _of_rows(
    rows: Sequence[tuple[str, str, Sequence[int], str, Sequence[str] | None]],
    targets: Sequence[Target],
    read: Mapping[Path, dict[str, Any]],
) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """Row label -> seed -> target -> result, of rows as the settings have them."""
    return {
        title: {
            f"seed{seed}": {
                target.name: _one(read, f"{name}_seed{seed}_{part}", target.name)
                for target in targets
                if asked is None or target.name in asked
            }
            for seed in seeds
        }
        for title, name, seeds, part, asked in rows
    }


def _origins(settings: Mapping[str, Any], about: Mapping[str, Any]) -> "dict[str, Origin]":
    """Row label -> where its weights come from."""
    from ctssl.evaluate.transfer import origin

    found = dict[str, "Origin"]()
    for row, (how, path) in settings["pretrained"].items():
        card = _card(Path(path)) if how == "given" else None
        found[row] = origin(how, settings["cohort"], card, about.get("preparation"))
    return found


def _card(weights: Path) -> dict[str, Any]:
    """The card beside given weights.

    Raises:
        WeightsError: it cannot be read.
    """
    path = weights.with_suffix(".json")
    try:
        return read_card(path)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise WeightsError(
            f"{path} cannot be read: {error}", "fetch the weights with their card again"
        ) from error
