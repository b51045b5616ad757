"""What is checked before any job starts: columns and labels that the config asks for, optional libraries.

Whatever can be known then must not come out after days of training.
"""

from importlib.util import find_spec

from ctssl import confounders, outcomes, settings_tables
from ctssl.config import Config
from ctssl.config.baselines import Clinical
from ctssl.config.evaluation import Target
from ctssl.errors import ConfigError
from ctssl.manifest import Manifest, is_known

INSTALL = "pip install --constraint constraints.txt --editable '.[{extra}]'"


def check(config: Config, manifest: Manifest) -> None:
    """Nothing, when the table of scans has all that the evaluation asks for.

    Raises:
        ManifestError: a column is missing, or events are neither 1 nor 0.
        ConfigError: classes without an order would be merged, a column has no two values to leave out, or
            there are no published figures of the targets.
    """
    chosen = config.evaluation
    for target in chosen.targets:
        known = outcomes.texts(manifest, target)
        if (target.rare or chosen.rare) == "merge" and target.task == "classify":
            _check_order(manifest, target, known, chosen.folds)
    for baseline in config.baselines:
        for column in baseline.options.columns if isinstance(baseline.options, Clinical) else ():
            manifest.column(column, f"options.columns of baseline {baseline.name}")
    if chosen.stratify:
        manifest.column(chosen.stratify, "evaluation.stratify")
    if chosen.leave_out:
        _check_values(manifest, chosen.leave_out)
    confounders.check(config, manifest)
    if chosen.published:
        settings_tables.paper(config)


def check_libraries(config: Config) -> None:
    """Nothing, when the environment, which must be that of the jobs, has the libraries of chosen extras.

    Raises:
        ConfigError: one is missing.
    """
    times = [target.name for target in config.evaluation.targets if target.task == "survive"]
    texture = [chosen.name for chosen in config.baselines if chosen.method == "texture"]
    for what, names, module, library, extra in (
        ("evaluation.targets of task survive", times, "sksurv", "scikit-survival", "survival"),
        ("baselines of method texture", texture, "mahotas", "mahotas", "texture"),
    ):
        if names and find_spec(module) is None:
            raise ConfigError(
                f"{what} ({', '.join(names)}) need the library {library}, which is not installed",
                f"install it: {INSTALL.format(extra=extra)}; or take them out of the config",
            )


def _check_order(manifest: Manifest, target: Target, texts: dict[str, str], folds: int) -> None:
    """Nothing, when no class is rare, or classes have neighbours to be merged with."""
    rows = [row for row in manifest.rows if not row.exclude and is_known(texts[row.scan])]
    who: dict[str, set[str]] = {}
    for row in rows:
        who.setdefault(outcomes.class_of(texts[row.scan].strip()), set()).add(row.subject)
    few = [f"{name} ({len(people)})" for name, people in sorted(who.items()) if len(people) < folds]
    ordered = outcomes.integer_classes(who) if target.ordered is None else target.ordered
    if few and not ordered:
        raise ConfigError(
            f"target {target.name}: rare: merge joins neighbours, but its classes have no order; fewer "
            f"subjects than {folds} folds are of {', '.join(few[:10])}",
            "give the target `ordered: true` if the names of its classes rise with what they mean, or "
            "`rare: drop`",
        )


def _check_values(manifest: Manifest, column: str) -> None:
    """Nothing, when one value can be left out and another be learnt from."""
    key = "evaluation.leave_out"
    known = manifest.column(column, key)
    values = {known[r.scan].strip() for r in manifest.rows if not r.exclude and is_known(known[r.scan])}
    if len(values) < 2:
        found = f"all scans have {min(values)[:40]!r}" if values else "none of its values is known"
        raise ConfigError(
            f"{key}: {column} leaves out one value of this column at a time, but {found}",
            "name a column with two values or more, or take leave_out out of the config",
        )
