"""Published figures of the context-aware method and its rivals, which stand beside ours and are none of ours.

Source: Sun, Yu, Batmanghelich, "Context Matters: Graph-based Self-supervised Representation Learning for
Medical Images", AAAI 2021, arXiv 2012.06457, Tables 1 to 3. Copied from the text of the paper, where columns
had lost their lines: compare with the PDF before you cite a figure.
"""

from collections.abc import Mapping
from dataclasses import dataclass

OWN = "Context-aware (Sun et al.)"
"""What the paper calls "Ours"; in our tables that word would mean somebody else."""


@dataclass(frozen=True)
class Figure:
    """A mean over folds, and its standard deviation where there is one; accuracy in percent."""

    mean: float
    sd: float | None = None


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        target: name of the target in the ready config of the cohort.
        head: what the paper calls it.
        metric: what is shown: R² or accuracy in percent, over folds.
    """

    target: str
    head: str
    metric: str


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        method: what the paper calls it, but for its own.
        pretrained_on: the cohort; of the third table part of the layout.
        figures: target -> figure; what is not there was not reported.
    """

    method: str
    pretrained_on: str
    figures: Mapping[str, Figure]


@dataclass(frozen=True)
class Published:
    """A table of the paper.

    Attributes:
        name: Table 1, ...
        cohort: on whom, and how many.
        columns: what is predicted.
        rows: in the paper's order.
        by_pretraining: the columns of the layout are cohorts of pretraining, and there is one target.
        remarks: what a reader must know, sentences.
    """

    name: str
    cohort: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    by_pretraining: bool = False
    remarks: tuple[str, ...] = ()


_LEARNT_HERE = ("ModelsGenesis", "MoCo", OWN)
NOTHING = "nothing"
"""What a row was pretrained on that was not."""
OF_AUTHORS = "data of its authors"
"""What published weights were pretrained on, which nobody named."""
_MEDICALNET = (
    "MedicalNet is used with the weights of its authors, who trained it to segment scans of 23 data sets."
)


def _rows(columns: tuple[Column, ...], cohort: str, text: str) -> tuple[Row, ...]:
    """The rows of lines `method | figure | figure ...`, a figure being `mean`, `mean sd` or a dash."""
    rows = []
    for line in text.strip().splitlines():
        method, *cells = (cell.strip() for cell in line.split("|"))
        figures = {
            column.target: Figure(*map(float, cell.split()))
            for column, cell in zip(columns, cells, strict=True)
            if cell != "-"
        }
        elsewhere = OF_AUTHORS if method == "MedicalNet" else NOTHING
        rows.append(Row(method, cohort if method.startswith(_LEARNT_HERE) else elsewhere, figures))
    return tuple(rows)


_COPDGENE = (
    Column("fev1pp", "logFEV1pp", "r2"),
    Column("fev1-fvc", "logFEV1/FVC", "r2"),
    Column("gold", "GOLD", "accuracy"),
    Column("cle", "CLE", "accuracy"),
    Column("paraseptal", "Para-septal", "accuracy"),
    Column("ae-history", "AE history", "accuracy"),
    Column("future-ae", "Future AE", "accuracy"),
    Column("mmrc", "mMRC", "accuracy"),
)
_COPDGENE_ROWS = f"""
LAA-950             | .44 .02 | .60 .01 | 55.8     | 32.9     | 33.3     | 73.8     | 73.8     | 41.6
K-Means             | .55 .03 | .68 .02 | 57.3     | -        | -        | -        | -        | -
Divergence-based    | .58 .03 | .70 .02 | 58.9     | -        | -        | -        | -        | -
MedicalNet          | .47 .10 | .59 .06 | 57.0 1.3 | 40.3 1.9 | 53.1 0.7 | 78.7 1.3 | 81.4 1.7 | 47.9 1.2
ModelsGenesis       | .58 .01 | .64 .01 | 59.5 2.3 | 41.8 1.4 | 52.7 0.5 | 77.8 0.8 | 76.7 1.2 | 46.0 1.2
MoCo                | .40 .02 | .49 .02 | 52.7 1.1 | 36.5 0.7 | 52.5 1.4 | 78.6 0.9 | 82.0 1.2 | 46.4 1.7
2D CNN (supervised) | .53     | -       | 51.1     | -        | -        | 60.4     | -        | -
Subject2Vec (supervised) | .67 .03 | .74 .01 | 65.4 | 40.6   | 52.8     | 76.9     | 68.3     | 43.6
{OWN} w/o CE        | .56 .03 | .65 .03 | 61.6 1.2 | 48.1 0.4 | 55.5 0.8 | 78.8 1.2 | 80.8 1.7 | 50.4 1.0
{OWN} w/o graph     | .60 .01 | .69 .01 | 62.5 1.0 | 49.2 1.1 | 55.8 1.3 | 78.7 1.5 | 80.7 1.7 | 50.6 0.8
{OWN}               | .62 .01 | .70 .01 | 63.2 1.1 | 50.4 1.3 | 56.2 1.1 | 78.8 1.3 | 81.1 1.6 | 51.0 1.0
"""
_MOSMED = (Column("severity", "severity", "accuracy"),)
_MOSMED_ROWS = f"""
MedicalNet          | 62.1
ModelsGenesis       | 62.0
MoCo                | 62.1
3D CNN (supervised) | 61.2
{OWN} w/o CE        | 63.3
{OWN} w/o graph     | 64.3
{OWN}               | 65.3
"""
_COVID = (Column("covid", "COVID-19 or not", "accuracy"),)
_COVID_ROWS = (
    ("MedicalNet", OF_AUTHORS, 85.0),
    ("ModelsGenesis", "COPDGene", 92.5),
    ("ModelsGenesis", "MosMed", 88.7),
    ("MoCo", "COPDGene", 75.0),
    ("MoCo", "MosMed", 86.3),
    ("3D CNN (supervised)", NOTHING, 77.5),
    (OWN, "COPDGene", 90.0),
    (OWN, "MosMed", 96.3),
)


PUBLISHED = {
    "copdgene": Published(
        name="Table 1",
        cohort="COPDGene, 9,180 subjects, 5 folds",
        columns=_COPDGENE,
        rows=_rows(_COPDGENE, "COPDGene", _COPDGENE_ROWS),
        remarks=(
            "The 2D CNN seems not to have been run on these folds: its GOLD figure is the one that its own "
            "authors report of a fixed test of 1,000 subjects (González et al. 2018).",
            "The paper speaks of four GOLD grades and discusses grades 0 to 4: look at the classes of ours.",
            _MEDICALNET,
        ),
    ),
    "mosmed": Published(
        name="Table 2",
        cohort="MosMedData COVID19_1110, 1,110 scans in 5 classes",
        columns=_MOSMED,
        rows=_rows(_MOSMED, "MosMed", _MOSMED_ROWS),
        remarks=(
            "The largest class, CT-1, is 684 of 1,110 scans, 61.6 %: such an accuracy needs no image. Read "
            "balanced accuracy and kappa in probes.csv.",
            _MEDICALNET,
        ),
    ),
    "covid19-ct": Published(
        name="Table 3",
        cohort="COVID-19 CT, 80 scans",
        columns=_COVID,
        rows=tuple(Row(method, on, {"covid": Figure(value)}) for method, on, value in _COVID_ROWS),
        by_pretraining=True,
        remarks=(
            "45 of the 80 scans are negative, so 56.3 % needs no image; positives and negatives come from "
            "different sources, which a network may tell apart by other things than the disease: read "
            "confounding.md.",
            _MEDICALNET,
        ),
    ),
}
"""evaluation.published -> the table of the paper."""
