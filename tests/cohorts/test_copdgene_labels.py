import gzip
import random
import shutil

import pytest
from cohorts import downloads
from cohorts.copdgene_study import EXPECTED, labels, subjects, write
from cohorts.downloads import NEW, OLD, PHASE1, PHASE2, SCANS, SUBJECTS, VISUAL

from ctssl import config
from ctssl.cohorts.missing import MISSING, SENTINELS
from ctssl.evaluate.labels import read_labels
from ctssl.manifest import read_manifest


def test_the_column_that_knows_more_subjects_is_taken(tmp_path):
    downloads.copdgene(tmp_path / "in")
    rows = [{"sid": "12918T", "finalGold_P1": "2"}, {"sid": "10005Q", "finalGold_P1": "-1024"}]
    downloads.tab_file(tmp_path / "in/A_first_by_name.txt", rows)
    write(tmp_path / "in", tmp_path / "study")
    assert labels(tmp_path / "study") == EXPECTED


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        *(("gold", "5"), ("gold", "-3"), ("gold", "0.5"), ("gold", "U"), ("gold", "1_0"), ("gold", "inf")),
        *(("cle", "6"), ("cle", "trace"), ("paraseptal", "3"), ("mmrc", "5"), ("sex", "3"), ("mmrc", "8")),
        *(("fev1pp", "91,2"), ("fev1pp", "0"), ("fev1pp", "999"), ("fev1_fvc", "78"), ("fev1_fvc", "-0.7")),
        *(
            ("ae_history", "99"),
            ("ae_history", "-1"),
            ("future_ae", "1.5"),
            ("age", "7"),
            ("pack_years", "-3"),
        ),
    ],
)
def test_an_unknown_value_is_named_with_its_line(tmp_path, column, cell):
    downloads.copdgene(tmp_path / "in", subjects=subjects(**{column: cell}))
    said = write(tmp_path / "in", tmp_path / "study", code=1)
    assert f"column {OLD[column]}" in said
    assert f"line 2, subject 12918T: {cell!r}" in said
    assert not (tmp_path / "study").exists()


def test_an_unknown_value_may_be_said_to_mean_missing(tmp_path):
    downloads.copdgene(tmp_path / "in", subjects=subjects(cle="Uninterpretable"))
    write(tmp_path / "in", tmp_path / "study", "--missing", "uninterpretable")
    assert labels(tmp_path / "study")["12918T"]["cle"] == ""


def test_a_fault_of_somebody_without_a_scan_is_nobodys(tmp_path):
    downloads.copdgene(tmp_path / "in", subjects=subjects(gold="7"), scans=SCANS[1:])
    write(tmp_path / "in", tmp_path / "study")
    found = labels(tmp_path / "study")
    assert "12918T" not in found
    assert found["10005Q"]["gold"] == "3"


def test_no_sentinel_survives(tmp_path):
    draw = random.Random(4)
    signs = sorted(MISSING) + [f(s) for s in sorted(SENTINELS) for f in ("{:.0f}".format, "{:.1f}".format)]
    signs += ["NaN", "NULL", "-1.024e3", "-01024"]
    many = {
        f"{n:05}A": {c: draw.choice(signs) if draw.random() < 0.5 else text for c, text in of.items()}
        for n, of in enumerate(draw.choices(list(SUBJECTS.values()), k=120))
    }
    scans = [f"{sid}_INSP_STD_NJC_COPD" for sid in many]
    downloads.copdgene(tmp_path / "in", subjects=many, scans=scans)
    write(tmp_path / "in", tmp_path / "study")
    found = labels(tmp_path / "study")
    for sid, of in many.items():
        for column, text in of.items():
            written = found[sid][column]
            assert (written == "") == (text in signs or (column == "gold" and text in ("-1", "-2")))
            assert written == "" or 0 <= float(written) <= 250
    read = read_manifest(tmp_path / "study/scans.csv")
    for target in config.read(tmp_path / "study/config.yaml").evaluation.targets:
        assert len(read_labels(read.column(target.column), target)) == sum(
            of[target.column] != "" for of in found.values()
        )


def test_a_word_that_is_a_label_elsewhere_needs_its_column(tmp_path):
    downloads.copdgene(tmp_path / "in", subjects=subjects(sex="3"))
    said = write(tmp_path / "in", tmp_path / "study", code=1)
    assert "say so: --missing sex=TEXT" in said
    said = write(tmp_path / "in", tmp_path / "study", "--missing", "3", code=1)
    assert "3 is a value of fev1pp, gold, cle, ae_history, future_ae, mmrc, pack_years" in said
    assert "--missing COLUMN=3" in said
    assert not (tmp_path / "study").exists()
    said = write(tmp_path / "in", tmp_path / "study", "--missing", "sex=3", "--missing", "never seen")
    assert labels(tmp_path / "study") == EXPECTED | {"12918T": EXPECTED["12918T"] | {"sex": ""}}
    assert "--missing sex=3: 1 cell(s)" in said
    assert "--missing never seen: 0 cell(s)" in said
    said = write(tmp_path / "in", tmp_path / "other", "--missing", "Gold=3", code=1)
    assert "'Gold' is no label here; there is 'gold'" in said


def visual(*lines, note=True):
    """A table of CT findings, whose last column is a note that is empty."""
    end = "\tnote" if note else ""
    return "\n".join([f"sid\tcomment\tEmph_Severity\tEmph_Paraseptal{end}", *lines])


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (("12918T\tok\t1\t0\t", '10005Q\t"old\t1"\t5\t2\t'), "line 3: expected 5 cells, but there are 6"),
        (('10005Q\t"old\t1"\t5\t2\t', "12918T\tok\t1\t0\t"), "line 2: expected 5 cells, but there are 6"),
        (("12918T\tok\t1\t0\t", "10005Q\tok\t5\t2\t\tmore"), "line 3: expected 5 cells, but there are 6"),
        (("12918T\tok\t1\t0\t\t", "10005Q\tok\t5\t2\t\tmore"), "line 3: expected 5 cells, but there are 6"),
        (("12918T\tok\t1\t0\t\t", "10005Q\tok\t5\t2"), "line 3: expected 5 cells, but there are 4"),
    ],
)
def test_a_row_with_cells_too_many_is_named(tmp_path, lines, fault):
    downloads.copdgene(tmp_path / "in")
    (tmp_path / "in" / VISUAL).write_text(visual(*lines))
    assert fault in write(tmp_path / "in", tmp_path / "study", code=1)


def test_rows_may_all_end_in_the_same_empty_cells(tmp_path):
    downloads.copdgene(tmp_path / "in")
    lines = [f"{sid}\tok\t{of['cle']}\t{of['paraseptal']}\t\t" for sid, of in SUBJECTS.items()]
    (tmp_path / "in" / VISUAL).write_text(visual(*lines, note=False))
    write(tmp_path / "in", tmp_path / "study")
    assert labels(tmp_path / "study") == EXPECTED


def test_a_label_known_of_nobody_is_no_label(tmp_path):
    nobody = {sid: of | {"gold": "-1024", "age": "NA"} for sid, of in SUBJECTS.items()}
    downloads.copdgene(tmp_path / "in", subjects=nobody)
    said = write(tmp_path / "in", tmp_path / "study", code=1)
    where = f"of no subject with a scan known in finalGold of {PHASE1}"
    assert f"gold: finalGold or finalgold_visit (also with _P1); {where}" in said
    assert "visitnum" not in said
    said = write(tmp_path / "in", tmp_path / "study", "--without", "gold")
    assert "age: no label, and nothing in config.yaml that needs it" in said
    assert "clinical" not in [b.name for b in config.read(tmp_path / "study/config.yaml").baselines]


def long_table(folder, *visits):
    """In place of the three tables one with a row a visit; the visits as they are written there."""
    downloads.copdgene(folder)
    shutil.rmtree(folder / "ClinicalData")
    names = {column: name.removesuffix("_P1") for column, name in NEW.items() if column != "future_ae"}
    rows = [
        [sid, visit, *(of[column] for column in names)] for sid, of in SUBJECTS.items() for visit in visits
    ]
    (folder / "long.csv").write_text(
        "\n".join(",".join(row) for row in [["sid", "visitnum", *names.values()], *rows])
    )


def test_visits_that_are_there_are_named(tmp_path):
    long_table(tmp_path / "1", "1")
    said = write(tmp_path / "1", tmp_path / "study", code=1)
    assert "of no subject with a scan known in Exacerbation_Frequency (second visit) of long.csv" in said
    assert "tables with a column sid: long.csv (visitnum: '1')" in said
    assert "  gold:" not in said
    long_table(tmp_path / "2", "Visit 1", "Visit 2")
    said = write(tmp_path / "2", tmp_path / "study", code=1)
    assert "long.csv (visitnum: 'Visit 1', 'Visit 2')" in said
    assert "  gold:" in said
    long_table(tmp_path / "3", "1", "2")
    said = write(tmp_path / "3", tmp_path / "study")
    assert "ae_history: from Exacerbation_Frequency of long.csv" in said
    assert "future_ae: from Exacerbation_Frequency (second visit) of long.csv" in said


def test_tables_that_disagree(tmp_path):
    downloads.copdgene(tmp_path / "in")
    other = tmp_path / "in/deep/A.txt"
    rows = [{"sid": sid, "finalgold_visit": "3", "FEV1pp_post": "91"} for sid in ("12918T", "10005Q", "1X")]
    downloads.tab_file(other, rows)
    said = write(tmp_path / "in", tmp_path / "study")
    assert labels(tmp_path / "study") == EXPECTED
    assert "gold: finalgold_visit of deep/A.txt says otherwise of 1 subject(s), as 12918T" in said
    assert "fev1pp: FEV1pp_post of deep/A.txt says otherwise of 1 subject(s), as 10005Q" in said
    rows = [{"sid": sid, "FINALGOLD": gold} for sid, gold in (("12918T", "4"), ("10005Q", "3"))]
    downloads.tab_file(other, rows)
    said = write(tmp_path / "in", tmp_path / "again", code=1)
    assert "two tables have a column finalGold and disagree on it of 1 subject(s), as 12918T: " in said
    assert str(other) in said
    assert "keep the one that is wrong" in said


def test_a_column_that_comes_twice_is_no_column(tmp_path):
    downloads.copdgene(tmp_path / "in")
    path = tmp_path / "in" / VISUAL
    path.write_text("sid\tEmph_Severity\temph_severity\tEmph_Paraseptal\n12918T\t5\t1\t2\n")
    said = write(tmp_path / "in", tmp_path / "study", code=1)
    assert f"{path} has more than one column emph_severity" in said


def test_tables_that_cannot_be_read_are_named(tmp_path):
    downloads.copdgene(tmp_path / "in")
    first, second, third = (tmp_path / "in" / name for name in (PHASE1, VISUAL, PHASE2))
    packed = first.with_name(first.name + ".gz")
    packed.write_bytes(gzip.compress(first.read_bytes()))
    first.unlink()
    second.write_text(second.read_bytes().decode("latin-1").replace("\t", ";"))
    (tmp_path / "elsewhere").mkdir()
    shutil.move(third, tmp_path / "elsewhere")
    (tmp_path / "in/linked").symlink_to(tmp_path / "elsewhere")
    expected = (
        f"not read: {PHASE1}.gz, packed, or no text",
        f"not read: {VISUAL}, separated by neither tabs nor commas",
        "not read: linked, links to folders elsewhere, which are not followed",
    )
    said = write(tmp_path / "in", tmp_path / "study", code=1)
    assert "holds no table of phenotypes" in said
    assert all(line in said for line in expected)
    (tmp_path / "in/other.txt").write_text("sid\tfinalGold\n12918T\t1\n")
    said = write(tmp_path / "in", tmp_path / "study", code=1)
    assert "no table knows these labels" in said
    assert all(line in said for line in expected)
    assert "Images" not in said


def test_links_out_of_the_folder_of_tables_are_told_of(tmp_path):
    downloads.copdgene(tmp_path / "in")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "in/ClinicalData/more").symlink_to(tmp_path / "elsewhere")
    shutil.move(tmp_path / "in/Images", tmp_path / "Images")
    (tmp_path / "in/Images").symlink_to(tmp_path / "Images")
    said = write(tmp_path / "in", tmp_path / "study", code=1)
    assert "links to folders elsewhere, which are not followed (name the folder itself): 2, as " in said
    pheno = tmp_path / "in/ClinicalData"
    said = write(tmp_path / "Images", tmp_path / "study", "--pheno", str(pheno))
    assert f"(name the folder itself): 1, as {pheno / 'more'}" in said


@pytest.mark.parametrize(
    "cell", ["Müller 1948-02-29", "1948-02-29", "29.02.1948", "29feb1948", "19480229", "02/1948", "A" * 16]
)
def test_what_may_tell_of_a_person_is_not_repeated(tmp_path, cell):
    downloads.copdgene(tmp_path / "in", subjects=subjects(cle=cell))
    said = write(tmp_path / "in", tmp_path / "study", code=1)
    assert f"line 2, subject 12918T: a text of {len(cell)} letters, where whole numbers from 0 to 5" in said
    assert cell not in said
    with (tmp_path / "in" / VISUAL).open("a", encoding="latin-1") as file:
        file.write("\r\n12918T\t4\t0\t\t\t")
    said = write(tmp_path / "in", tmp_path / "study", code=1)
    assert f"two values of Emph_Severity: a text of {len(cell)} letters on line 2, '4' on line 6" in said
