"""Labels of COPDGene: what each may be called and may be, and which column of which table it is from."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ctssl.cohorts.missing import Missing, is_missing, number, read_missing, shown
from ctssl.cohorts.phenotypes import Found, Source, find_sources
from ctssl.cohorts.written import listed
from ctssl.errors import CohortError

COUNTS = ("ae_history", "future_ae")  # written as: at least one
_SHOWN = 10
_ROUNDED = 0.01  # two releases of a table differ by less in what they round


@dataclass(frozen=True)
class Phenotype:
    """What a column of scans.csv is made of.

    Attributes:
        column: its name in scans.csv.
        names: what it may be called in the files; case does not count, nor does a suffix _P1.
        low, high: the least and the largest value; no value may lie outside.
        whole: values are whole numbers, classes or counts.
        needed: whether its absence is an error.
    """

    column: str
    names: tuple[str, ...]
    low: float
    high: float
    whole: bool = True
    needed: bool = True

    @property
    def canonical(self) -> tuple[str, ...]:
        """The names as a Source bears them."""
        return tuple(name.lower() for name in self.names)

    def fault(self, text: str) -> str:
        """What is wrong with a cell that is not missing; "" when nothing is."""
        value = number(text)
        kind = "whole numbers" if self.whole else "numbers"
        if value is None or not self.low <= value <= self.high or (self.whole and value % 1):
            return f"{shown(text)}, where {kind} from {self.low:g} to {self.high:g} are known"
        return ""

    def value(self, text: str) -> str:
        """A sound cell as it goes into scans.csv: a class without decimals, a number as written."""
        if self.column in COUNTS:
            return str(int(float(text) > 0))
        return str(int(float(text))) if self.whole else text

    def differ(self, one: str, other: str) -> bool:
        """Whether two cells, where both are sound, give unlike labels; rounding does not count."""
        if self.fault(one) or self.fault(other):
            return False
        if self.whole:
            return self.value(one) != self.value(other)
        return not math.isclose(float(one), float(other), rel_tol=_ROUNDED)


PHENOTYPES = (
    Phenotype("fev1pp", ("FEV1pp_utah", "FEV1pp_post"), 1, 250, whole=False),
    Phenotype("fev1_fvc", ("FEV1_FVC_utah", "FEV1_FVC_post"), 0.01, 1.5, whole=False),
    Phenotype("gold", ("finalGold", "finalgold_visit"), -2, 4),
    Phenotype("cle", ("Emph_Severity", "CT_Visual_Emph_Severity"), 0, 5),
    Phenotype("paraseptal", ("Emph_Paraseptal", "CT_Visual_Emph_Paraseptal"), 0, 2),
    Phenotype("ae_history", ("Exacerbation_Frequency",), 0, 50),
    Phenotype("future_ae", ("Exacerbation_Frequency_P2",), 0, 50),
    Phenotype("mmrc", ("MMRCDyspneaScor",), 0, 4),
    Phenotype("age", ("Age_Enroll", "age_visit", "Age"), 18, 110, whole=False, needed=False),
    Phenotype("sex", ("gender",), 1, 2, needed=False),
    Phenotype("pack_years", ("ATS_PackYears",), 0, 500, whole=False, needed=False),
)
"""In the order of scans.csv. Source: the names of batmanlab/Context_Aware_SSL@6fa7acb, and newer exports'."""

PREFERRED = tuple(name for phenotype in PHENOTYPES for name in phenotype.canonical)


@dataclass
class Labels:
    """What is found for the subjects of scans.

    Attributes:
        pheno: the folder of tables.
        subjects: those of the scans.
        words: the user's for a label that is not known.
        said: a sentence on where each label is from, and what became of cells.
        values: phenotype's column -> subject -> label, of those of whom it is known.
    """

    pheno: Path
    subjects: set[str]
    words: Missing
    said: list[str] = field(default_factory=list)
    values: dict[str, dict[str, str]] = field(default_factory=dict)


def find_labels(
    pheno: Path, subjects: set[str], without: Collection[str], missing: Collection[str]
) -> Labels:
    """The labels of the subjects, each from the column that knows it of most of them.

    Args:
        pheno: folder with the tables, at any depth.
        subjects: those of the scans.
        without: columns that are not asked for.
        missing: words for a label that is not known, or COLUMN=WORD.

    Raises:
        CohortError: no table, a label that no table knows, cells that say what is not known, tables that
            contradict each other, or a word that is a label.
    """
    asked = [phenotype for phenotype in PHENOTYPES if phenotype.column not in without]
    labels = Labels(pheno, subjects, _read_words(missing, asked))
    found = find_sources(pheno, "sid", {name for p in asked for name in p.canonical})
    _check_tables(found, labels)
    absent = []
    for phenotype in asked:
        having = [source for source in found.sources if source.name in phenotype.canonical]
        in_order = sorted(having, key=lambda source: PREFERRED.index(source.name))
        known = [len(_known(source, phenotype, labels)) for source in in_order]
        if not any(known):
            absent += [(phenotype, in_order)] * phenotype.needed
            continue
        source = in_order[known.index(max(known))]
        labels.values[phenotype.column] = _read(source, phenotype, labels)
        labels.said += _compare(source, in_order, phenotype, labels)
    if absent:
        raise _lacking(absent, found, labels)
    labels.said += labels.words.said()
    return labels


def _read_words(missing: Collection[str], asked: Sequence[Phenotype]) -> Missing:
    """The user's words; one that holds everywhere must not be a label anywhere."""
    words = read_missing(missing, [phenotype.column for phenotype in asked])
    for word in words.everywhere:
        if sound := [phenotype.column for phenotype in asked if not phenotype.fault(word)]:
            raise CohortError(
                f"--missing {word} would empty cells that are known: {word} is a value of {', '.join(sound)}",
                f"name the column in which it means that nothing is known: --missing COLUMN={word}",
            )
    return words


def _check_tables(found: Found, labels: Labels) -> None:
    """Nothing, where a table tells of a subject with a scan, or none has a column that would."""
    if not found.tables:
        raise CohortError(
            f"{labels.pheno} holds no table of phenotypes: no .txt, .tsv or .csv with a column sid"
            + listed(_unread(found, labels)),
            "name the folder that holds them with --pheno; unpack .gz and .zip first, and export tables with "
            "tabs or commas",
        )
    read = [table.subjects for table in found.tables if table.subjects is not None]
    if read and not any(there & labels.subjects for there in read):
        raise CohortError(
            f"no table has a row for any of the {len(labels.subjects)} subjects of the scans",
            "is the column sid the one that file names begin with, as 12918T?",
        )


def _lacking(absent: list[tuple[Phenotype, list[Source]]], found: Found, labels: Labels) -> CohortError:
    """What to say of labels that no table has, or that none knows of anybody."""
    lines = []
    for phenotype, having in absent:
        also = "" if phenotype.column == "future_ae" else " (also with _P1)"
        where = [f"{source.title} of {_below(source.path, labels)}" for source in having]
        nobody = f"; of no subject with a scan known in {', '.join(where)}" if where else ""
        lines.append(f"{phenotype.column}: {' or '.join(phenotype.names)}{also}{nobody}")
    tables = []
    for table in found.tables[:_SHOWN]:
        visits = ", ".join(shown(visit, words=2) for visit in sorted(table.visits)[:_SHOWN])
        tables.append(_below(table.path, labels) + (f" (visitnum: {visits})" if visits else ""))
    lines.append(f"tables with a column sid: {', '.join(tables)}")
    by_visit = ", with 1 and 2 in visitnum" if any(table.visits for table in found.tables) else ""
    return CohortError(
        f"no table knows these labels:{listed(lines)}{listed(_unread(found, labels))}",
        f"name the folder that holds all three tables with --pheno{by_visit}, or leave labels out: "
        + " ".join(f"--without {p.column}" for p, _ in absent),
    )


def _unread(found: Found, labels: Labels) -> list[str]:
    return [f"not read: {_below(path, labels)}, {why}" for path, why in found.unread]


def _below(path: Path, labels: Labels) -> str:
    return str(path.relative_to(labels.pheno))


def _known(source: Source, phenotype: Phenotype, labels: Labels) -> dict[str, str]:
    """Subject with a scan -> cell, where it says anything."""
    cells = {sid: source.cells[sid][0] for sid in sorted(labels.subjects & source.cells.keys())}
    match = labels.words.match
    return {
        sid: text for sid, text in cells.items() if not is_missing(text) and not match(phenotype.column, text)
    }


def _read(source: Source, phenotype: Phenotype, labels: Labels) -> dict[str, str]:
    """Subject -> label, of those of whom it is known."""
    known = _known(source, phenotype, labels)
    faults = {sid: fault for sid, text in known.items() if (fault := phenotype.fault(text))}
    if faults:
        lines = [f"line {source.cells[sid][1]}, subject {sid}: {fault}" for sid, fault in faults.items()]
        raise CohortError(
            f"{source.path}, column {source.column}, holds what no {phenotype.column} is:{listed(lines)}",
            "correct the cells; or, where they mean that the label is not known, say so: --missing "
            f"{phenotype.column}=TEXT",
        )
    cells = (source.cells[sid][0] for sid in labels.subjects & source.cells.keys())
    labels.words.removed.update(filter(None, (labels.words.match(phenotype.column, text) for text in cells)))
    labels.said.append(f"{phenotype.column}: from {source.title} of {_below(source.path, labels)}")
    return {sid: phenotype.value(text) for sid, text in known.items()}


def _compare(chosen: Source, having: list[Source], phenotype: Phenotype, labels: Labels) -> list[str]:
    """A sentence for each other column that knows some subjects otherwise than the chosen one.

    Raises:
        CohortError: one of the same name does, so that one of two tables is wrong, or of a later visit.
    """
    said = []
    own = _known(chosen, phenotype, labels)
    for source in having:
        others = {} if source is chosen else _known(source, phenotype, labels)
        unlike = [
            sid for sid in sorted(own.keys() & others.keys()) if phenotype.differ(own[sid], others[sid])
        ]
        of = f"of {len(unlike)} subject(s), as {unlike[0]}" if unlike else ""
        if unlike and source.title.lower() == chosen.title.lower():
            raise CohortError(
                f"two tables have a column {chosen.column} and disagree on it {of}: {chosen.path} and "
                f"{source.path}",
                "keep the one that is wrong, or of a later visit, out of --pheno",
            )
        if unlike:
            where = f"{source.title} of {_below(source.path, labels)}"
            said.append(f"{phenotype.column}: {where} says otherwise {of}")
    return said
