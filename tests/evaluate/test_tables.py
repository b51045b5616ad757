import numpy as np
import pandas as pd
import pytest

from ctssl.config.evaluation import Target
from ctssl.evaluate.joining import HOW
from ctssl.evaluate.tables import COLUMNS, write_tables
from ctssl.evaluate.transfer import Origin

FEV1 = Target(name="fev1", column="FEV1pp", task="regress", log=True)
GOLD = Target(name="gold", column="finalGold", task="classify")


def metric(value, low=None, high=None, mean=None, sd=None):
    return {"value": value, "low": low, "high": high, "fold_mean": mean, "fold_sd": sd}


def regress(value=0.61, mean=0.62, n=60, note=""):
    r2 = metric(value, value - 0.05, value + 0.05, mean, 0.01)
    return {
        **{"target": "fev1", "task": "regress", "n": n, "subjects": n - 1, "classes": None, "majority": None},
        **{"metrics": {"r2": r2, "mae": metric(3.0)}, "folds": [{}] * 5, "note": note},
    }


def classify(metrics=True, note=""):
    values = {"accuracy": metric(0.629, 0.551, 0.702, 0.6321, 0.011), "balanced_accuracy": metric(0.5034)}
    return {
        **{"target": "gold", "task": "classify", "n": 60, "subjects": 59, "classes": {"0": 37, "1": 23}},
        **{"majority": 37 / 60, "metrics": values if metrics else None, "folds": [{}] * 5, "note": note},
    }


def write(tmp_path, results, targets=(FEV1, GOLD)):
    paths = tmp_path / "tables" / "probes.csv", tmp_path / "tables" / "probes.md"
    write_tables(results, targets, *paths)
    return pd.read_csv(paths[0], dtype={"seed": str}), paths[1].read_text()


def rows(page):
    """The cells of the page's table."""
    return [
        [c.strip() for c in line.strip("| ").split(" | ")] for line in page.splitlines() if line[:1] == "|"
    ]


def test_the_csv_is_complete_and_in_the_order_given(tmp_path):
    results = {
        "Ours": {"seed0": {"fev1": regress(), "gold": classify()}},
        "LAA-950": {"-": {"fev1": regress(0.4, 0.4)}},
    }
    table, _ = write(tmp_path, results)
    assert tuple(table.columns) == COLUMNS
    got = table[["row", "target", "metric", "seed"]].values.tolist()
    assert got == [
        ["Ours", "fev1", "r2", "seed0"],
        ["Ours", "fev1", "mae", "seed0"],
        ["Ours", "gold", "accuracy", "seed0"],
        ["Ours", "gold", "balanced_accuracy", "seed0"],
        ["LAA-950", "fev1", "r2", "-"],
        ["LAA-950", "fev1", "mae", "-"],
    ]
    line = table.iloc[2]
    assert (line.value, line.low, line.high, line.fold_mean, line.fold_sd) == (
        0.629,
        0.551,
        0.702,
        0.6321,
        0.011,
    )
    assert (line.n, line.subjects, line.classes, line.task) == (60, 59, "0:37 1:23", "classify")
    assert line.majority == pytest.approx(37 / 60)


def test_a_probe_that_measured_nothing_has_a_line_with_its_note(tmp_path):
    table, page = write(
        tmp_path, {"Ours": {"seed0": {"gold": classify(metrics=False, note="one class")}}}, [GOLD]
    )
    assert len(table) == 1
    assert pd.isna(table.metric[0])
    assert pd.isna(table.value[0])
    assert table.note[0] == "one class"
    assert rows(page)[2] == ["Ours", "not measured"]
    assert "- Ours: one class." in page


def test_a_target_that_a_row_was_not_asked_for_is_no_failure(tmp_path):
    results = {"3-D CNN": {"seed0": {"fev1": regress()}}, "Ours": {"seed0": {"gold": classify()}}}
    table, page = write(tmp_path, results)
    assert rows(page)[2][2] == rows(page)[3][1] == "not asked"
    assert set(zip(table.row, table.target, strict=True)) == {("3-D CNN", "fev1"), ("Ours", "gold")}


def test_the_page_shows_values_intervals_n_classes_and_majority(tmp_path):
    labels = ["Ours", "Ours w/o CE", "Ours w/o Graph", "LAA-950"]
    _, page = write(tmp_path, {label: {"seed0": {"fev1": regress(), "gold": classify()}} for label in labels})
    head, _, *body = rows(page)
    assert head == [
        "method",
        "fev1, logarithm: R² (n = 60)",
        "gold: accuracy % (n = 60, 2 classes, majority 61.7 %)",
    ]
    assert [line[0] for line in body] == labels
    assert body[0][1:] == [
        "0.62 ± 0.01; pooled 0.61 [0.56, 0.66]",
        "63.2 ± 1.1; pooled 62.9 [55.1, 70.2]; balanced 50.3",
    ]
    for words in (
        "5-fold",
        "grouped by subject",
        "inside the training folds",
        "Rows that were pretrained on this cohort",
    ):
        assert words in page
    assert "Small sample" not in page


def test_the_page_says_which_rows_are_what_and_says_it_once(tmp_path):
    late = f"{HOW}; fold 1: one class in training, so 0 is predicted"
    cnn = {"fev1": regress(note=HOW), "gold": classify(note=late)}
    results = {"3-D CNN": {"0": cnn, "1": cnn}, "Ours": {"0": {"fev1": regress()}}, "A|B": {"0": cnn}}
    table, page = write(tmp_path, results)
    assert page.startswith("# Results\n")
    assert page.count(HOW) == 1
    assert f"\n3-D CNN, A\\|B: {HOW}.\n" in page
    assert "All other rows are frozen features with a linear probe: scaler, penalty" in page
    assert "- 3-D CNN (gold); A\\|B (gold): fold 1: one class in training" in page
    assert page.count("\n- ") == 1
    assert table.note.dropna().str.startswith(HOW).all()


def test_a_page_of_one_kind_of_rows_speaks_of_no_other(tmp_path):
    _, frozen = write(tmp_path, {"Ours": {"0": {"fev1": regress()}}}, [FEV1])
    assert "All rows are frozen features" in frozen
    assert "network was trained" not in frozen
    _, trained = write(tmp_path, {"CNN": {"0": {"fev1": regress(note=HOW)}}}, [FEV1])
    assert HOW in trained
    for words in ("linear probe", "pretrained", "Notes"):
        assert words not in trained


def test_several_seeds_give_mean_and_sd_over_seeds(tmp_path):
    means = [0.60, 0.64, 0.65]
    seeds = {str(i): {"fev1": regress(value, value)} for i, value in enumerate(means)}
    _, page = write(tmp_path, {"Ours": seeds}, [FEV1])
    expected = f"{np.mean(means):.2f} ± {np.std(means, ddof=1):.2f}; pooled {np.mean(means):.2f} [0.55, 0.70]"
    assert rows(page)[2] == ["Ours", expected]


def test_small_or_differing_n_shows(tmp_path):
    results = {
        "Ours": {"seed0": {"fev1": regress(n=8)}},
        "LAA-950": {"-": {"fev1": regress(n=60)}},
        "Late": {"seed0": {}},
    }
    _, page = write(tmp_path, results, [FEV1])
    assert "(n = 8 to 60)" in rows(page)[0][1]
    assert "n = 8 is below 50" in page
    assert rows(page)[-1] == ["Late", "not asked"]


def test_repeats_and_times_to_an_event_are_told(tmp_path):
    died = Target(name="died", column="years", task="survive", event="dead")
    found = regress() | {
        "target": "died",
        "task": "survive",
        "classes": {"event": 21, "censored": 39},
        "metrics": {"concordance": metric(-0.0, 0.6, 0.7)},
    }
    found["folds"] = [{"repeat": r, "fold": f} for r in range(3) for f in range(5)]
    _, page = write(tmp_path, {"Ours": {"seed0": {"died": found}}}, [died])
    assert rows(page)[0][1] == "died: concordance (n = 60, 21 events)"
    assert rows(page)[2][1] == "–; pooled 0.00 [0.60, 0.70]"
    assert "Measured by 3 times repeated 5-fold cross-validation" in page


def test_the_page_and_the_csv_say_on_what_rows_were_pretrained(tmp_path):
    results = {name: {"seed0": {"fev1": regress()}} for name in ("A", "B", "C")}
    paths = tmp_path / "probes.csv", tmp_path / "probes.md"
    pretrained = {"A": Origin("X"), "B": Origin("X"), "C": Origin("Y|Z", "Prepared otherwise")}
    write_tables(results, [FEV1], *paths, pretrained)
    assert pd.read_csv(paths[0]).drop_duplicates("row").pretrained_on.tolist() == ["X", "X", "Y|Z"]
    page = paths[1].read_text()
    assert "\nPretrained on:\n\n- A; B: X.\n- C: Y\\|Z. Prepared otherwise.\n" in page


def test_what_is_undefined_is_a_dash_and_equal_notes_stand_once(tmp_path):
    lone = regress(note="r2 undefined in fold 0")
    lone["metrics"]["r2"] |= {"fold_mean": None, "fold_sd": None}
    _, page = write(tmp_path, {"A|B": {"seed0": {"fev1": lone}}, "C": {"seed0": {"fev1": lone}}}, [FEV1])
    assert "| A\\|B | –; pooled 0.61 [0.56, 0.66] |" in page
    assert "- all rows: r2 undefined in fold 0." in page
