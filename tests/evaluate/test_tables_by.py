"""The tables of left-out values: one line of all values together, one of each."""

import pandas as pd

from ctssl.config.evaluation import Target
from ctssl.evaluate.tables_by import BY_COLUMNS, write_by

FEV1 = Target(name="fev1", column="fev1", task="regress")
SICK = Target(name="sick", column="sick", task="classify")


def result(metric, values, target, task):
    record = [
        {"fold": i, "repeat": 0, "value": v, "train": 30, "test": n, metric: x} for i, (v, n, x) in values
    ]
    found = {"value": 0.5, "low": 0.4, "high": 0.6, "fold_mean": 0.5, "fold_sd": 0.1}
    metrics = {metric: found} | ({"balanced_accuracy": found} if task == "classify" else {})
    if task == "classify":
        record = [r | {"balanced_accuracy": None} for r in record]
    return {
        **{
            "target": target,
            "task": task,
            "n": 60,
            "subjects": 60,
            "majority": 0.5,
            "note": "each fold leaves out",
        },
        **{
            "classes": {"0": 30, "1": 30} if task == "classify" else None,
            "metrics": metrics,
            "folds": record,
        },
    }


def made(values, metric="accuracy", target="sick", task="classify"):
    return result(metric, list(enumerate(values)), target, task)


def write(folder, results, targets):
    paths = folder / "by-site.csv", folder / "by-site.md"
    write_by("site", results, targets, *paths)
    return pd.read_csv(paths[0]), paths[1].read_text()


def cells(lines):
    return [
        [cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines if line.startswith("|")
    ]


def test_every_value_has_a_column_and_a_line(tmp_path):
    values = [("A|B", 40, 0.25), ("C", 20, 0.75)]
    results = {
        "Ours": {
            "seed0": {"sick": made(values)},
            "seed1": {"sick": made([("A|B", 40, 0.35), ("C", 20, None)])},
        },
        "LAA": {"seed0": {"sick": made(values[:1])}},
    }
    table, page = write(tmp_path, results, [SICK])
    assert tuple(table.columns) == BY_COLUMNS
    each = table[table.left_out.notna() & (table.metric == "accuracy")]
    shown = each[["row", "seed", "left_out", "value", "train", "test"]].fillna(-1)  # what is undefined
    assert shown.values.tolist() == [
        ["Ours", "seed0", "A|B", 0.25, 30, 40],
        ["Ours", "seed0", "C", 0.75, 30, 20],
        ["Ours", "seed1", "A|B", 0.35, 30, 40],
        ["Ours", "seed1", "C", -1, 30, 20],
        ["LAA", "seed0", "A|B", 0.25, 30, 40],
    ]
    assert set(table.column) == {"site"}
    whole = table[table.left_out.isna()]
    assert len(whole) == 3 * 2  # rows and seeds, by metrics
    part = page.split("## sick, of each site")[1]
    head, _, *lines = cells(part.replace("A\\|B", "A/B").splitlines())
    assert head == ["method: accuracy %", "A/B (n = 40)", "C (n = 20)"]
    assert lines == [["Ours", "30.0", "75.0"], ["LAA", "25.0", "–"]]
    assert page.startswith("# One site left out\n")
    assert "- all rows: each fold leaves out." in page


def test_numbers_show_their_r2_and_what_was_not_measured_is_said(tmp_path):
    lone = made([("A", 3, -4.125)], "r2", "fev1", "regress")
    nothing = lone | {"metrics": None, "folds": []}
    _, page = write(
        tmp_path, {"Ours": {"seed0": {"fev1": lone}}, "LAA": {"seed0": {"fev1": nothing}}}, [FEV1]
    )
    assert cells(page.split("of each site")[1].splitlines())[2:] == [["Ours", "-4.12"], ["LAA", "–"]]
    table, page = write(tmp_path, {"LAA": {"seed0": {"fev1": nothing}}}, [FEV1])
    assert "Nothing was measured." in page
    assert (len(table), table.metric.isna().all()) == (1, True)
