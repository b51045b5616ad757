"""COPDGene: labels from three tables of phenotypes, of the scans that a folder holds."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctssl.cohorts.copdgene_labels import PHENOTYPES, find_labels
from ctssl.cohorts.copdgene_scans import find_scans
from ctssl.cohorts.folder import LINKED, find_links, visible
from ctssl.cohorts.written import Row, check_free, protocol, write_files

PRISM, NEVER_SMOKED = "-1", "-2"
GOLD = ("0", "1", "2", "3", "4")
_SHOWN = 10


@dataclass(frozen=True)
class Choices:
    """What a user may choose.

    Attributes:
        gold_classes: GOLD stages that are labels; other known ones leave the label empty.
        all_scans: every kernel and dose of a subject's inspiration, not only the preferred.
        without: labels that are left out of the study.
        missing: further words for a label that is not known, or COLUMN=WORD for one label.
    """

    gold_classes: Sequence[str] = GOLD
    all_scans: bool = False
    without: Collection[str] = ()
    missing: Collection[str] = ()


def write_copdgene(folder: Path, pheno: Path, to: Path, choices: Choices) -> str:
    """What was written, what was left out, and what to run next; writes scans.csv and config.yaml.

    Args:
        folder: with images, or folders of DICOM slices, named as <sid>_INSP_STD_<site>_COPD, at any depth.
        pheno: with the tables of phenotypes, at any depth.
        to: where both files go.
        choices: what a user may choose.

    Raises:
        ManifestError: a file would be overwritten.
        CohortError: no scans, no table, a label that no table knows, or what `find_labels` refuses.
    """
    check_free(to)
    said: list[str] = []
    scans = find_scans(folder, said, all_scans=choices.all_scans)
    subjects = {scan.sid for scan in scans}
    if pheno != folder and (links := find_links(pheno, visible(pheno))):
        said.append(f"left out, {LINKED}: {len(links)}, as {links[0]}")
    found = find_labels(pheno, subjects, choices.without, choices.missing)
    said += found.said
    labels = found.values
    if "gold" in labels:
        labels["gold"] = _gold(labels["gold"], choices.gold_classes, said)
    rows: list[Row] = [
        {
            **{"scan": scan.name, "subject": scan.sid, "image": scan.image},
            **{"site": scan.site, "kernel": scan.kernel},
            **{column: of.get(scan.sid, "") for column, of in labels.items()},
        }
        for scan in scans
    ]
    without = [phenotype.column for phenotype in PHENOTYPES if phenotype.column not in labels]
    said += [f"{column}: no label, and nothing in config.yaml that needs it" for column in without]
    config = protocol("copdgene", without)
    if "gold" in labels and not {PRISM, NEVER_SMOKED}.isdisjoint(choices.gold_classes):
        config = re.sub(r"(\{name: gold,.*task: classify)\}", r"\1, ordered: false}", config)
        said.append("gold: -1 and -2 are no grades, so the classes have no order (ordered: false)")
    table, command = write_files(to, ("site", "kernel", *labels), rows, config)
    said += [_summary(column, of) for column, of in labels.items()]
    head = f"{len(scans)} scans of {len(subjects)} subjects are in {table}"
    return "\n  ".join([head, *said]) + f"\nLook at it, then run:\n  {command}"


def _gold(labels: dict[str, str], classes: Sequence[str], said: list[str]) -> dict[str, str]:
    """The labels that are among the classes."""
    words = {PRISM: "PRISm (-1)", NEVER_SMOKED: "never-smokers (-2)"}
    dropped = Counter(stage for stage in labels.values() if stage not in classes)
    said += [
        f"gold: no label for {count} subject(s), {words.get(stage, f'GOLD {stage}')}; --gold-classes"
        for stage, count in sorted(dropped.items())
    ]
    return {sid: stage for sid, stage in labels.items() if stage in classes}


def _summary(column: str, labels: dict[str, str]) -> str:
    """How many subjects have a label, and which classes there are."""
    counts = Counter(labels.values())
    classes = f": {', '.join(f'{c} {counts[c]}' for c in sorted(counts))}" if len(counts) <= _SHOWN else ""
    return f"{column}: known of {len(labels)} subjects{classes}"
