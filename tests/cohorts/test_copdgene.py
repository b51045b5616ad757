import re
from pathlib import Path

import pytest
from cohorts import downloads
from cohorts.copdgene_study import COLUMNS, EXPECTED, labels, write
from cohorts.downloads import NEW, OLD, PHASE1, PHASE2, SCANS, SUBJECTS, VISUAL, cells

from ctssl import config
from ctssl.cohorts.copdgene_labels import COUNTS, PHENOTYPES
from ctssl.cohorts.missing import MISSING, SENTINELS
from ctssl.manifest import read_manifest


@pytest.mark.parametrize("names", [OLD, NEW], ids=["old", "new"])
def test_labels_are_those_of_the_three_tables(tmp_path, names):
    downloads.copdgene(tmp_path / "in", names)
    said = write(tmp_path / "in", tmp_path / "study")
    assert labels(tmp_path / "study") == EXPECTED
    assert f"gold: from {names['gold']} of {PHASE1}" in said


def test_tables_are_found_by_their_columns_whatever_they_are_called(tmp_path):
    downloads.copdgene(tmp_path / "in")
    for number, name in enumerate((PHASE1, VISUAL, PHASE2)):
        (tmp_path / "pheno/deep").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).rename(tmp_path / f"pheno/deep/{number}.tsv")
    (tmp_path / "pheno/notes.txt").write_text("no table\nat all\n")
    (tmp_path / "pheno/empty.csv").write_bytes(b"")
    write(tmp_path / "in", tmp_path / "study", "--pheno", str(tmp_path / "pheno"))
    assert labels(tmp_path / "study") == EXPECTED


def test_rows_of_visits_are_read_by_their_number(tmp_path):
    downloads.copdgene(tmp_path / "in")
    for name in (PHASE1, VISUAL, PHASE2):
        (tmp_path / "in" / name).unlink()
    names = {column: name.removesuffix("_P1") for column, name in NEW.items() if column != "future_ae"}
    names |= {"age": "age_visit"}
    lines = [["sid", "visitnum", *names.values()]]
    for sid, of in SUBJECTS.items():
        lines.append([sid, "1", *(of[column] for column in names)])
        later = dict.fromkeys(names, "") | {"ae_history": of["future_ae"], "gold": "4"}
        lines += [[sid, visit, *later.values()] for visit in ("2",)]
        lines.append([sid, "3", *("9" for _ in names)])
    path = tmp_path / "in/COPDGene_P1P2P3_Long.csv"
    path.write_text("\n".join(",".join(line) for line in lines))
    write(tmp_path / "in", tmp_path / "study")
    assert labels(tmp_path / "study") == EXPECTED


def test_comments_above_a_table_and_quoted_cells(tmp_path):
    downloads.copdgene(tmp_path / "in")
    path = tmp_path / "in" / VISUAL
    head, *rows = path.read_bytes().decode("latin-1").split("\r\n")
    quoted = "\n".join("\t".join(f'"{cell}"' for cell in row.split("\t")[:3]) for row in (head, *rows))
    path.write_bytes(f"# Study accession: phs000179\n##\t\n\n{quoted}\n".encode("utf-16"))
    write(tmp_path / "in", tmp_path / "study")
    assert labels(tmp_path / "study") == EXPECTED


def test_every_gold_stage_may_be_a_class(tmp_path):
    downloads.copdgene(tmp_path / "in")
    said = write(tmp_path / "in", tmp_path / "all", "--gold-classes", "-2,-1,0,1,2,3,4")
    assert [of["gold"] for of in labels(tmp_path / "all").values()] == ["3", "-2", "0", "-1"]
    assert "no label for" not in said
    assert "the classes have no order (ordered: false)" in said
    for options, ordered in ((("--gold-classes", "0,1,-1"), False), ((), None)):
        study = tmp_path / str(ordered)
        write(tmp_path / "in", study, *options)
        targets = {t.column: t.ordered for t in config.read(study / "config.yaml").evaluation.targets}
        assert targets["gold"] is ordered
        assert targets["cle"] is None
    said = write(tmp_path / "in", tmp_path / "default")
    assert "gold: no label for 1 subject(s), PRISm (-1)" in said
    assert "gold: no label for 1 subject(s), never-smokers (-2)" in said
    assert "gold: known of 2 subjects: 0 1, 3 1" in said
    for wrong in ("0,1,5", "3", "x,0"):
        write(tmp_path / "in", tmp_path / "wrong", "--gold-classes", wrong, code=2)


def test_columns_ids_and_sites(tmp_path):
    downloads.copdgene(tmp_path / "in")
    write(tmp_path / "in", tmp_path / "study")
    read = read_manifest(tmp_path / "study/scans.csv")
    assert read.label_columns == ("site", "kernel", *COLUMNS)
    assert read.scans == sorted(SCANS)
    row = read.row("10005Q_INSP_STD_BWH_COPD")
    assert (row.subject, row.labels["site"], row.labels["kernel"]) == ("10005Q", "BWH", "STD")
    assert row.image == tmp_path / "in/Images/10005Q_INSP_STD_BWH_COPD.nii.gz"
    assert row.mask is None


def test_nothing_that_was_not_asked_for_is_copied(tmp_path):
    downloads.copdgene(tmp_path / "in")
    said = write(tmp_path / "in", tmp_path / "study")
    text = said + "".join(path.read_text() for path in (tmp_path / "study").iterdir())
    assert not re.search("1948|Müller|M.ller|he said|birth|last_name", text)


LEFT_OUT = {
    "12918T_EXP_STD_NJC_COPD": "in expiration",
    "12918T_INSP_STD_NJC_COPD2": "of later visits",
    "10005Q_INSP_B31f_330_NJC_COPD3": "of later visits",
    "12918T_INSP_STD_NJC_COPD_leftLungRightLung": "derived from scans",
    "12918T_INSP_STD_NJC_COPD_BSpline_Iso1.0mm": "better one",
    "12918T_INSP_B31f_340_NJC_COPD": "better one",
    "12918T_INSP_SHARP_NJC_COPD": "better one",
    "phantom": "not of the form",
}


def test_links_that_lead_nowhere_are_counted(tmp_path):
    downloads.copdgene(tmp_path / "in")
    (tmp_path / "in/Images/55555A_INSP_STD_NJC_COPD.nii.gz").symlink_to(tmp_path / "not/fetched")
    said = write(tmp_path / "in", tmp_path / "study")
    assert re.search(r"links that lead nowhere .*: 1, as .*55555A_INSP_STD_NJC_COPD.nii.gz", said)


def test_what_is_no_first_inspiration_is_left_out_and_counted(tmp_path):
    downloads.copdgene(tmp_path / "in", scans=(*SCANS, *LEFT_OUT))
    said = write(tmp_path / "in", tmp_path / "study")
    assert list(cells(tmp_path / "study")) == sorted(SCANS)
    for reason in set(LEFT_OUT.values()):
        names = [name for name, of in LEFT_OUT.items() if of == reason]
        line = next(line for line in said.splitlines() if reason in line)
        assert re.search(rf": {len(names)}, as ({'|'.join(names)})$", line)


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (("B31f_340_NJC_COPD1", "SHARP_NJC_COPD"), "B31f_340_NJC_COPD1"),
        (("B45f_NJC_COPD", "B31f_NJC_COPD"), "B31f_NJC_COPD"),
        (("STD_340_NJC_LD_COPD", "STD_NJC_COPD"), "STD_NJC_COPD"),
        (("STD_340_NJC_COPD_BSpline_Iso1.0mm", "STD_NJC_COPD"), "STD_NJC_COPD"),
        (("STD_NJC_COPD_BSpline_Iso1.0mm", "STD_NJC_LD_COPD"), "STD_NJC_COPD_BSpline_Iso1.0mm"),
        (("STD_NJC_COPD_BSpline_Iso1.0mm", "SHARP_NJC_COPD"), "STD_NJC_COPD_BSpline_Iso1.0mm"),
    ],
)
def test_which_scan_of_a_subject_is_taken(tmp_path, there, taken):
    downloads.copdgene(tmp_path / "in", scans=[f"12918T_INSP_{name}" for name in there])
    write(tmp_path / "in", tmp_path / "study")
    assert list(cells(tmp_path / "study")) == [f"12918T_INSP_{taken}"]


def test_all_scans_of_a_subject_but_no_copy(tmp_path):
    more = ("SHARP_NJC_COPD", "STD_NJC_LD_COPD", "STD_NJC_COPD", "STD_NJC_COPD_BSpline_Iso1.0mm")
    downloads.copdgene(tmp_path / "in", scans=[f"12918T_INSP_{name}" for name in more])
    write(tmp_path / "in", tmp_path / "study", "--all-scans")
    found = cells(tmp_path / "study")
    assert [row["kernel"] for row in found.values()] == ["SHARP", "STD", "STD"]
    assert {row["subject"] for row in found.values()} == {"12918T"}
    assert not any("BSpline" in scan for scan in found)


def test_slices_go_by_the_folder_that_bears_the_name(tmp_path):
    downloads.copdgene(tmp_path / "in", scans=SCANS[1:])
    slices = tmp_path / "in/19003F/12918T_INSP_B31f_340_COPD1/dicom"
    slices.mkdir(parents=True)
    (slices / "1").write_bytes(b"\0" * 128 + b"DICM")
    write(tmp_path / "in", tmp_path / "study")
    row = cells(tmp_path / "study")["12918T_INSP_B31f_340_COPD1"]
    assert (row["subject"], row["image"], row["site"]) == ("12918T", str(slices), "")


@pytest.mark.parametrize("names", [OLD, NEW], ids=["old", "new"])
@pytest.mark.parametrize("column", [c for c in COLUMNS if c not in ("age", "sex", "pack_years")])
def test_a_missing_column_is_named_with_the_names_it_may_have(tmp_path, names, column):
    downloads.copdgene(tmp_path / "in", names | {column: "something_else"})
    said = write(tmp_path / "in", tmp_path / "study", code=1)
    known = next(p.names for p in PHENOTYPES if p.column == column)
    assert f"{column}: {' or '.join(known)}" in said
    assert f"--without {column}" in said
    assert not (tmp_path / "study").exists()


def test_a_label_may_be_left_out_with_what_needs_it(tmp_path):
    downloads.copdgene(tmp_path / "in", OLD | {"future_ae": "other", "gold": "another", "age": "years"})
    said = write(tmp_path / "in", tmp_path / "study", "--without", "future_ae", "--without", "gold")
    read = config.read(tmp_path / "study/config.yaml")
    assert {t.column for t in read.evaluation.targets} == set(COLUMNS[:8]) - {"future_ae", "gold"}
    assert read.evaluation.stratify is None
    assert "clinical" not in [b.name for b in read.baselines]
    assert not {"future_ae", "gold", "age"} & set(read_manifest(tmp_path / "study/scans.csv").label_columns)
    assert "age: no label, and nothing in config.yaml that needs it" in said


def test_the_config_runs_the_protocol(tmp_path):
    downloads.copdgene(tmp_path / "in")
    said = write(tmp_path / "in", tmp_path / "my study")
    read = config.read(tmp_path / "my study/config.yaml")
    assert read.manifest == tmp_path / "my study/scans.csv"
    assert read.results == tmp_path / "my study/results"
    assert read.atlas.mask is not None
    assert read.atlas.mask.is_absolute()
    assert read.atlas.mask.is_file()
    assert read.atlas.landmarks is not None
    assert read.atlas.landmarks.is_file()
    assert (read.evaluation.folds, read.evaluation.stratify) == (5, "gold")
    assert [c.column for c in read.evaluation.confounders] == ["site", "kernel", "slice_mm"]
    assert (read.evaluation.published, read.evaluation.reference) == ("copdgene", "context-aware")
    assert [b.name for b in read.baselines] == [
        *("majority", "clinical", "laa-950", "bag-of-features", "divergence"),
    ]
    assert read.baselines[1].options.columns == ("age", "sex", "pack_years")
    assert {t.column: (t.task, t.log) for t in read.evaluation.targets} == {
        **{"fev1pp": ("regress", True), "fev1_fvc": ("regress", True)},
        **dict.fromkeys(
            ("gold", "cle", "paraseptal", "ae_history", "future_ae", "mmrc"), ("classify", False)
        ),
    }
    assert f"--configfile '{tmp_path / 'my study/config.yaml'}'" in said


def test_other_faults_say_what_to_do(tmp_path):
    downloads.copdgene(tmp_path / "in")
    (tmp_path / "empty").mkdir()
    assert "no inspiratory scan" in write(tmp_path / "empty", tmp_path / "study", code=1)
    said = write(tmp_path / "in", tmp_path / "study", "--pheno", str(tmp_path / "empty"), code=1)
    assert "no table of phenotypes" in said
    path = tmp_path / "in" / VISUAL
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"\t5\t", b"\t5\n\t"))
    assert "line 3: expected 6 cells, but there are 2" in write(tmp_path / "in", tmp_path / "study", code=1)
    path.write_bytes(whole + b"\r\n10005q\t4\t2\t\t\t")
    said = write(tmp_path / "in", tmp_path / "study", code=1)
    assert "10005Q has two values of Emph_Severity: '5' on line 3, '4' on line 6" in said
    path.write_bytes(whole)
    downloads.copdgene(tmp_path / "strange", scans=["99999Z_INSP_STD_NJC_COPD"])
    assert "no table has a row for any of the 1 subjects" in write(
        tmp_path / "strange", tmp_path / "study", code=1
    )
    assert not (tmp_path / "study").exists()
    write(tmp_path / "in", tmp_path / "study")
    assert "exist already" in write(tmp_path / "in", tmp_path / "study", code=1)


def test_the_page_tells_every_column_its_names_and_what_is_missing():
    page = (Path(__file__).parents[2] / "docs/cohorts.md").read_text().split("\n## ")[1]
    lines = {p.column: re.search(rf"^\| `{p.column}` \| (.+)$", page, re.MULTILINE) for p in PHENOTYPES[:8]}
    for phenotype in PHENOTYPES[:8]:
        names, values, *_ = lines[phenotype.column][1].split(" | ")
        assert re.findall("`(.+?)`", names) == list(phenotype.names)
        if phenotype.column not in (*COUNTS, "gold"):
            assert values == f"{phenotype.low:g} to {phenotype.high:g}"
    assert {f"`{name}`" for p in PHENOTYPES[8:] for name in p.names} <= set(re.findall("`.+?`", page))
    told = page.split("**Not known** are ")[1].split(":")[0]
    assert {float(text) for text in re.findall(r"-\d+", told)} == SENTINELS
    assert {text.lower() for text in re.findall("`(.+?)`", told)} == MISSING - {""}
