"""What `ctssl cohort copdgene` makes of a miniature download folder."""

from click.testing import CliRunner
from cohorts.downloads import SUBJECTS, cells

from ctssl.cli import cli
from ctssl.cohorts.copdgene_labels import PHENOTYPES

COLUMNS = [p.column for p in PHENOTYPES]


def write(folder, to, *options, code=0):
    """What `ctssl cohort copdgene` says."""
    done = CliRunner().invoke(cli, ["cohort", "copdgene", str(folder), "--to", str(to), *options])
    assert done.exit_code == code, (done.output, done.exception)
    return done.output if code == 0 else str(done.exception)


def labels(study):
    """Subject -> its labels in scans.csv."""
    return {row["subject"]: {column: row[column] for column in COLUMNS} for row in cells(study).values()}


def subjects(**changes):
    """Subjects of which the first has other cells."""
    first, *others = SUBJECTS
    return {first: SUBJECTS[first] | changes} | {sid: SUBJECTS[sid] for sid in others}


EXPECTED = {
    "12918T": SUBJECTS["12918T"] | {"ae_history": "0", "future_ae": "1"},
    "10005Q": SUBJECTS["10005Q"] | {"ae_history": "1", "future_ae": "0"},
    "19003F": SUBJECTS["19003F"] | {"gold": "", "ae_history": "1", "future_ae": ""},
    "10161E": SUBJECTS["10161E"] | {"gold": "", "ae_history": "0", "future_ae": ""},
}
