"""The settings of result tables, and of what is asked about confounders; as those of ctssl.settings."""

from typing import Any

from ctssl.config import Config
from ctssl.config.runs import How, Run
from ctssl.confounders import is_measured
from ctssl.digests import label_digest
from ctssl.errors import ConfigError
from ctssl.evaluate.published import PUBLISHED
from ctssl.manifest import Manifest
from ctssl.settings import text_of
from ctssl.settings_probes import asked

TASKS = {"r2": "regress", "accuracy": "classify"}
"""Metric of a published column -> task of the target that it is compared with."""


def tables(config: Config) -> str:
    """Settings of the result tables: rows and targets in their order, and on what rows were pretrained."""
    targets = [target.model_dump() for target in config.evaluation.targets]
    return text_of("tables", rows=rows_of(config), targets=targets, **origins(config))


def rows_of(config: Config) -> list[tuple[str, str, list[int], str, list[str] | None]]:
    """Of each row its label, run or baseline, seeds, part, and the targets that it predicts (null: all)."""
    runs = [(r.title, r.name, list(r.seeds), r.part, config.targets_of(r.name)) for r in config.runs]
    return [*runs, *((chosen.title, chosen.name, [0], "all", None) for chosen in config.baselines)]


def confounder(config: Config, manifest: Manifest, name: str) -> str:
    """Settings of what features say of a confounder."""
    return text_of("confounder", **_confounder(config, manifest, name))


def alone(config: Config, manifest: Manifest, name: str, target: str) -> str:
    """Settings of what a confounder alone says of a target."""
    return text_of("alone", **asked(config, manifest, target) | _confounder(config, manifest, name))


def _confounder(config: Config, manifest: Manifest, name: str) -> dict[str, Any]:
    """The confounder and a digest of its values; of what is measured the outputs of the cohort tell."""
    chosen = config.confounder(name)
    measured = is_measured(manifest, chosen.column)
    values = None if measured else label_digest(manifest.column(chosen.column))
    return {"manifest": str(manifest.path), "confounder": chosen.model_dump(mode="json"), "values": values}


def with_features(config: Config) -> list[tuple[str, str, list[int], str, None]]:
    """The rows that have one table of features of all scans."""
    return [(*row[:4], None) for row in rows_of(config) if row[3] == "all"]


def tables_by(config: Config) -> str:
    """Settings of the tables where one value of a column is left out at a time."""
    targets = [target.model_dump(mode="json") for target in config.evaluation.targets]
    return text_of(
        "tables_by", column=config.evaluation.leave_out, rows=with_features(config), targets=targets
    )


def confounding(config: Config) -> str:
    """Settings of the tables of confounding: rows that have features, confounders and targets in order."""
    return text_of(
        "confounding",
        rows=with_features(config),
        confounders=[chosen.model_dump(mode="json") for chosen in config.evaluation.confounders],
        targets=[target.model_dump(mode="json") for target in config.evaluation.targets],
    )


def paper(config: Config) -> str:
    """Settings of the table in the paper's layout.

    Raises:
        ConfigError: no target is one of the published columns, or one is with another task.
    """
    name = config.evaluation.published
    if name is None:
        raise ConfigError("evaluation.published is null", "name a cohort with published figures")
    tasks = {column.target: TASKS[column.metric] for column in PUBLISHED[name].columns}
    shown = [target for target in config.evaluation.targets if target.name in tasks]
    wrong = [t.name for t in shown if t.task != tasks[t.name]]
    if wrong or not shown:
        asked = ", ".join(f"{target} ({task})" for target, task in tasks.items())
        found = f"target {wrong[0]} has another task" if wrong else "no target has such a name"
        raise ConfigError(
            f"evaluation.published: {name} compares targets by name, and {found}; published are {asked}",
            "rename the targets, or leave evaluation.published out",
        )
    return text_of(
        "paper",
        published=name,
        rows=rows_of(config),
        targets=[target.model_dump(mode="json") for target in shown],
        **origins(config),
    )


def origins(config: Config) -> dict[str, Any]:
    """What says of each row on what it was pretrained: how, and the weights that it was given."""
    runs = {run.title: (_how(run), str(run.weights) if run.weights else None) for run in config.runs}
    baselines = {chosen.title: ("nothing", None) for chosen in config.baselines}
    return {"cohort": config.cohort, "pretrained": runs | baselines}


def _how(run: Run) -> How:
    if run.weights is not None:
        return "given"
    if run.options.supervised or run.method == "untrained":
        return "nothing"
    return "folds" if run.inside else "all"
