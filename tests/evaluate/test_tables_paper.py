"""Our figures in the paper's layout: published ones are marked, and LaTeX holds what it shows."""

import re

import pandas as pd
import pytest

from ctssl.escaping import in_latex
from ctssl.evaluate.joining import HOW as HOW_TRAINED
from ctssl.evaluate.published import OWN, PUBLISHED
from ctssl.evaluate.tables_paper import PAPER_COLUMNS, write_paper
from ctssl.evaluate.transfer import Origin, origin

HERE = Origin("this cohort (transductive)")


def result(task, mean, sd, n=50, majority=None):
    metric = "r2" if task == "regress" else "accuracy"
    values = {"value": mean, "low": None, "high": None, "fold_mean": mean, "fold_sd": sd}
    return {
        **{"task": task, "n": n, "subjects": n, "metrics": {metric: values}, "folds": [], "note": ""},
        **{"classes": {"0": 30, "1": 20} if majority else None, "majority": majority},
    }


OURS = {
    "A & B_1 100%": {
        "seed0": {"fev1pp": result("regress", 0.512, 0.034), "gold": result("classify", 0.6, 0.01, 50, 0.6)}
    },
    "Failed": {"seed0": {"fev1pp": result("regress", 0.5, 0.1) | {"metrics": None, "note": "one class"}}},
    "Two seeds": {
        "seed0": {"gold": result("classify", 0.5, 0.01, 48, 0.58)},
        "seed1": {"gold": result("classify", 0.6, 0.01, 48, 0.58)},
    },
}


def write(folder, name, results, origins):
    paths = [folder / "tables" / f"paper.{kind}" for kind in ("csv", "md", "tex")]
    write_paper(PUBLISHED[name], results, origins, *paths)
    return pd.read_csv(paths[0]), *(path.read_text(encoding="utf-8") for path in paths[1:])


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return write(tmp_path_factory.mktemp("one"), "copdgene", OURS, dict.fromkeys(OURS, HERE))


def cells(page):
    """First cell, second cell -> the others, of the page's table."""
    lines = [line for line in page.splitlines() if line.startswith("|")]
    return [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_page_has_the_papers_columns_and_marks_what_is_published(first):
    head, _, *lines = cells(first[1])
    assert head[:3] == ["figures", "method", "pretrained on"]
    assert head[3:] == [
        *("logFEV1pp, R²", "logFEV1/FVC, R²", "GOLD, accuracy %", "CLE, accuracy %"),
        *("Para-septal, accuracy %", "AE history, accuracy %", "Future AE, accuracy %", "mMRC, accuracy %"),
    ]
    assert [line[0] for line in lines] == ["published"] * 11 + ["this study"] * 3
    of = {line[1]: line[2:] for line in lines}
    assert of[OWN][:4] == ["COPDGene", "0.62 ± 0.01", "0.70 ± 0.01", "63.2 ± 1.1"]
    assert of["K-Means"] == ["nothing", "0.55 ± 0.03", "0.68 ± 0.02", "57.3", *"-----"]
    assert of["A & B_1 100%".replace("&", "&amp;")][:4] == [HERE.on, "0.51 ± 0.03", "-", "60.0 ± 1.0"]
    assert of["Failed"][1:] == ["not measured", *"-------"]
    # of several seeds: over seeds; the standard deviation of 50 and 60 is 7.07
    assert of["Two seeds"][3] == "55.0 ± 7.1"
    assert "- GOLD: n = 48 to 50, 2 classes, largest class 58.0 to 60.0 %" in first[1]
    assert "Published figures are copied" in first[1]


def test_the_csv_holds_the_same_figures_unrounded(first):
    table = first[0]
    assert tuple(table.columns) == PAPER_COLUMNS
    published = table[table.source == "published"]
    assert len(published) == sum(len(row.figures) for row in PUBLISHED["copdgene"].rows)
    assert published[["n", "majority_percent"]].isna().all(axis=None)
    ours = table[table.source == "this study"].set_index(["row", "target"])
    assert ours.loc[("A & B_1 100%", "fev1pp"), ["mean", "sd", "n"]].tolist() == [0.512, 0.034, 50]
    assert ours.loc[("Two seeds", "gold"), "mean"] == pytest.approx(55)
    assert ours.loc[("A & B_1 100%", "gold"), "majority_percent"] == pytest.approx(60)


def test_what_measured_nothing_has_a_line_with_its_note(first):
    table = first[0]
    (line,) = table[table.row == "Failed"].to_dict("records")
    assert (line["target"], line["n"], line["note"]) == ("fev1pp", 50, "one class")
    assert pd.isna(line["mean"])


def test_notes_of_probes_and_remarks_on_weights_are_told_in_all_three(tmp_path):
    merged = "classes with fewer subjects than 5 folds are merged: 4 (2 subjects) is counted as 3"
    gold, fev1 = result("classify", 0.6, 0.01, 50, 0.6), result("regress", 0.5, 0.1)
    twice = {"gold": gold | {"note": merged}}
    results = {
        "A_1": {"seed0": twice, "seed1": twice},
        "B": {"seed0": {"gold": gold | {"note": f"{merged}; f1 undefined"}, "fev1pp": fev1}},
        "C": {
            "seed0": {
                "gold": gold | {"note": merged},
                "fev1pp": fev1 | {"note": "2 lost"},
                "fev1-fvc": fev1 | {"note": "3 lost"},
            }
        },
        "D": {"seed0": {"fev1-fvc": fev1 | {"note": f"{HOW_TRAINED}; 3 lost"}}},
    }
    unlike = Origin("LIDC", "The scans it learnt from were prepared otherwise than these: mask_x")
    table, page, latex = write(tmp_path, "copdgene", results, dict.fromkeys(results, unlike) | {"B": HERE})
    for said in (
        f"GOLD, A_1; C: {merged}",
        f"GOLD, B: {merged}; f1 undefined",
        "logFEV1pp, C: 2 lost",
        "logFEV1/FVC, all rows: 3 lost",
        f"A_1; C; D: {unlike.remark}",
    ):
        assert f"\n- {said}.\n" in page
        assert f"{in_latex(said)}." in latex
    tabular(latex)
    ours = table[table.source == "this study"].set_index(["row", "target"])
    assert ours.loc[("A_1", "gold"), ["note", "remark"]].tolist() == [merged, unlike.remark]
    assert ours.loc[("D", "fev1-fvc"), "note"] == "3 lost"
    assert pd.isna(ours.loc[("B", "gold"), "remark"])


def test_a_seed_that_measured_nothing_is_noted_and_the_others_count(tmp_path):
    found = result("classify", 0.5, 0.01, 48, 0.58)
    lost = found | {"n": 0, "classes": {}, "majority": None, "metrics": None, "note": "no scan"}
    results = {"A": {"seed0": {"gold": lost}, "seed1": {"gold": found}}}
    _, page, _ = write(tmp_path, "copdgene", results, {"A": HERE})
    assert cells(page)[-1][5] == "50.0 ± 1.0"
    assert "- GOLD: n = 48, 2 classes, largest class 58.0 %\n- GOLD, A: no scan.\n" in page


def tabular(latex):
    """The columns and the rows of a LaTeX table, each row its cells; TeX would stumble over none."""
    assert latex.isprintable() or "\n" in latex
    code = re.sub(r"(?m)^%.*$", "", latex)
    plain = re.sub(r"\\[\\{}$&#_%]", "", code)
    assert plain.count("{") == plain.count("}")
    assert plain.count("$") % 2 == 0
    assert not set("#_^~%") & set(re.sub(r"\$[^$]*\$", "", plain))
    begun, ended = (re.findall(rf"\\{word}\{{(\w+)\}}", code) for word in ("begin", "end"))
    assert begun == ended[::-1] == ["table", "tabular"]
    assert [code.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 2, 1]
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", code).group(1)
    inside = code.split(r"\toprule")[1].split(r"\bottomrule")[0]
    rows = [row for row in inside.replace(r"\midrule", "").split("\\\\\n") if row.strip()]
    return columns, [[cell.strip() for cell in re.split(r"(?<!\\)&", row)] for row in rows]


def test_the_latex_table_is_sound_and_shows_what_the_page_shows(first):
    columns, rows = tabular(first[2])
    assert columns == "llrrrrrrrr"
    spanning = [row for row in rows if row[0].startswith(r"\multicolumn")]
    assert [re.findall(r"\\emph\{(.*)\}\}", row[0]) for row in spanning] == [
        ["Published: Sun, Yu, Batmanghelich, AAAI 2021, Table 1"],
        ["This study"],
    ]
    full = [row for row in rows if row not in spanning]
    assert {len(row) for row in full} == {len(columns)}
    assert full[0][2] == "logFEV1pp, R$^2$"
    page = [line[1:] for line in cells(first[1])[2:]]
    back = {r"\&": "&amp;", r"\_": "_", r"\%": "%", r"$\pm$": "±"}
    for line, expected in zip(full[1:], page, strict=True):
        shown = line
        for code, sign in back.items():
            shown = [cell.replace(code, sign) for cell in shown]
        assert shown == expected


@pytest.mark.parametrize(("text", "code"), [("[2pt] A", "{[}2pt] A"), ("* A", "{*} A"), ('A "b"', "A ''b''")])
def test_a_label_is_no_argument_of_the_line_before_and_needs_no_other_font(tmp_path, text, code):
    _, _, latex = write(tmp_path, "copdgene", {text: OURS["A & B_1 100%"]}, {text: HERE})
    assert f"\n{code} & " in latex  # two backslashes stand before


@pytest.mark.parametrize("text", [r"\input{/etc/passwd}", "a\\\\b & c", "50%\n\\end{table}", "$x^2$ ~ #1 {"])
def test_a_hostile_label_stays_text(tmp_path, text):
    results = {text: OURS["A & B_1 100%"]}
    _, _, latex = write(tmp_path, "copdgene", results, {text: HERE})
    columns, rows = tabular(latex)
    assert {len(row) for row in rows} == {1, len(columns)}
    assert r"\input" not in latex
    assert in_latex(text) in latex


def test_the_third_table_has_a_column_for_each_cohort_of_pretraining(tmp_path):
    own = {
        row: {"seed0": {"covid": result("classify", 0.75, None, 80, 0.5625)}}
        for row in ("one", "one (pretrained on LIDC)", "two (pretrained on LIDC)", "three", "four")
    }
    cohorts = ("COPDGene", "LIDC", "LIDC", "nothing")
    origins = {row: Origin(on) for row, on in zip(own, cohorts, strict=False)}
    origins["four"] = origin("given", "LIDC", {"imported": [{"file": "a.pth"}]}, {})
    _, page, latex = write(tmp_path, "covid19-ct", own, origins)
    head, _, *lines = cells(page)
    assert head == ["figures", "method", "COPDGene", "MosMed", "data of its authors", "nothing", "LIDC"]
    of = {line[1]: line[2:] for line in lines}
    assert of["ModelsGenesis"] == ["92.5", "88.7", "-", "-", "-"]
    assert of["MedicalNet"] == ["-", "-", "85.0", "-", "-"]
    assert of[OWN] == ["90.0", "96.3", "-", "-", "-"]
    assert of["one"] == ["75.0", "-", "-", "-", "75.0"]  # one line, as in the paper
    assert of["two"] == ["-", "-", "-", "-", "75.0"]
    assert of["three"] == ["-", "-", "-", "75.0", "-"]
    assert of["four"] == ["-", "-", "75.0", "-", "-"]  # as MedicalNet in the paper
    assert [line[0] for line in lines].count("published") == 5
    assert "n = 80, 2 classes, largest class 56.2 %" in page
    columns, rows = tabular(latex)
    assert columns == "lrrrrr"
    assert {len(row) for row in rows} == {1, 6}


@pytest.mark.parametrize("turn", [1, -1])
def test_two_rows_of_one_cohort_keep_their_lines(tmp_path, turn):
    shares = {"one (pretrained on LIDC)": 0.6, "one": 0.9}
    own = {
        row: {"seed0": {"covid": result("classify", shares[row], None, 80, 0.5625)}}
        for row in list(shares)[::turn]
    }
    _, page, _ = write(tmp_path, "covid19-ct", own, dict.fromkeys(own, Origin("LIDC")))
    of = {line[1]: line[-1] for line in cells(page)}
    assert {row: of.get(row) for row in own} == {"one (pretrained on LIDC)": "60.0", "one": "90.0"}


def test_the_second_table(tmp_path):
    own = {"Ours": {"seed0": {"severity": result("classify", 0.6, 0.02, 1110, 684 / 1110)}}}
    _, page, latex = write(tmp_path, "mosmed", own, {"Ours": HERE})
    assert cells(page)[0] == ["figures", "method", "pretrained on", "severity, accuracy %"]
    assert "1,110 scans in 5 classes" in page
    assert "- severity: n = 1110, 2 classes, largest class 61.6 %" in page
    assert tabular(latex)[0] == "llr"
