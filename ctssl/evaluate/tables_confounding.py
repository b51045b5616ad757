"""Tables of confounding: what features say of confounders, and what confounders alone say of targets."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ctssl.config.evaluation import Target
from ctssl.escaping import in_csv, in_markdown
from ctssl.evaluate.tables import COLUMNS, Probes, cautions, grid, long_table

ABOUT, ALONE = "features say of the confounder", "the confounder alone says of the target"
CONFOUNDING_COLUMNS = ("question", *COLUMNS[:-1])
NO_FEATURES = "No row of this study has one table of features of all scans, so none was asked."
HOW = (
    "Cells are as in probes.md: measured with the same folds and the same probes as the targets. A result is "
    "in doubt where three things come together: the features predict a confounder better than its largest "
    "class (or, of numbers, with R² above 0), that confounder alone predicts the target better than the "
    "target's largest class, and the features predict the target no better than the confounder alone does. "
    "Where they predict it better, part of it may still be the confounder's: leave one value of it out "
    "(`evaluation.leave_out`), which asks whether what was learnt holds where that value was never seen. A "
    "confounder that the features do not predict can hardly act through a linear probe of them. Features may "
    "know of a confounder because the disease differs with it (sicker people at one site): the tables cannot "
    "tell that from the scanner."
)


def write_confounding(
    about: Probes,
    alone: Probes,
    confounders: Sequence[Target],
    targets: Sequence[Target],
    csv: Path,
    markdown: Path,
) -> None:
    """Nothing; writes both tables into one csv and one page.

    Args:
        about: row label -> seed -> confounder -> what `read_probe` gives; may be empty.
        alone: "CONFOUNDER alone" -> seed -> target -> the same; the features are the confounder.
        confounders: as targets, in the order of the columns.
        targets: in the order of the columns.
        csv: the columns of CONFOUNDING_COLUMNS.
        markdown: the page.
    """
    for path in (csv, markdown):
        path.parent.mkdir(parents=True, exist_ok=True)
    merged = {**about, **alone}
    tables = {ABOUT: long_table(about, confounders), ALONE: long_table(alone, targets)}
    whole = pd.concat([table.assign(question=q) for q, table in tables.items() if len(table)])
    whole[list(CONFOUNDING_COLUMNS)].map(in_csv).to_csv(csv, index=False)
    markdown.write_text(
        "\n".join(
            [
                "# Confounding",
                "",
                *("## What features say of confounders", ""),
                *(*(grid(about, confounders) if about else [NO_FEATURES]), ""),
                *((_taken(confounders), "") if confounders else ()),
                *("## What a confounder alone says of the targets", ""),
                *(*grid(alone, targets, "features"), ""),
                *("## How to read it", "", HOW),
                *cautions(merged, [*confounders, *targets]),
                "",
            ]
        ),
        encoding="utf-8",
    )


def _taken(confounders: Sequence[Target]) -> str:
    """Which confounders are classes and which are numbers."""
    kinds = {"classify": "classes", "regress": "numbers"}
    columns = {kind: [c.column for c in confounders if c.task == task] for task, kind in kinds.items()}
    said = [f"as {kind}: {in_markdown(', '.join(names))}" for kind, names in columns.items() if names]
    return f"Taken {'; '.join(said)}. `task` of a confounder in the config says otherwise."
