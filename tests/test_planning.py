"""What is refused before any job starts, that would come out after the training otherwise."""

import csv

import pytest
import yaml

from ctssl import config, planning
from ctssl.errors import ConfigError, ManifestError
from ctssl.manifest import read_manifest

ROWS = [
    {
        **{"scan": f"s{n}", "subject": f"p{n}", "age": "60", "days": str(n + 1), "died": str(n % 2)},
        **{"grade": "mild" if n < 4 else "severe", "stage": "1.0" if n < 4 else "2"},
        **{"site": "ab"[n % 2], "one": " x ", "none": "NA"},
    }
    for n in range(6)
]


def plan(folder, evaluation=None, rows=ROWS, **study):
    """Config and manifest of a study."""
    with (folder / "scans.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, sorted({name for row in rows for name in row}), restval="")
        writer.writeheader()
        writer.writerows(rows)
    study = {"manifest": str(folder / "scans.csv"), "evaluation": evaluation or {}, **study}
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    chosen = config.read(folder / "study.yaml")
    return chosen, read_manifest(chosen.manifest, images=False)


def graded(column="grade", **more):
    return [{"name": "grade", "column": column, "task": "classify", **more}]


def test_rare_classes_without_an_order_are_refused(tmp_path):
    asked = {"folds": 3, "rare": "merge", "targets": graded()}
    with pytest.raises(ConfigError, match=r"grade: rare: merge .* 3 folds are of severe \(2\)") as fault:
        planning.check(*plan(tmp_path, asked))
    assert "ordered: true" in fault.value.advice
    with pytest.raises(ConfigError, match="severe"):
        planning.check(*plan(tmp_path, asked | {"rare": "keep", "targets": graded(rare="merge")}))
    with pytest.raises(ConfigError, match="have no order"):
        planning.check(*plan(tmp_path, asked | {"targets": graded("stage", ordered=False)}))


@pytest.mark.parametrize(
    "asked",
    [
        {"folds": 2, "targets": graded()},  # no class is rare
        {"targets": graded(ordered=True)},
        {"targets": graded(rare="drop")},
        {"targets": graded("stage")},
        {"targets": [{"name": "age", "column": "age", "task": "regress"}]},
    ],
    ids=str,
)
def test_what_can_be_merged_or_need_not_be_is_taken(tmp_path, asked):
    planning.check(*plan(tmp_path, {"folds": 3, "rare": "merge", **asked}))


def test_scans_that_are_left_out_and_second_scans_do_not_count(tmp_path):
    asked = {"folds": 4, "rare": "merge", "targets": graded()}
    mild = [row for row in ROWS if row["grade"] == "mild"]
    planning.check(*plan(tmp_path, asked, mild))
    with pytest.raises(ConfigError, match=r"mild \(3\)"):
        planning.check(*plan(tmp_path, asked, [mild[0] | {"exclude": "yes"}, *mild[1:]]))
    with pytest.raises(ConfigError, match=r"mild \(3\)"):
        planning.check(*plan(tmp_path, asked, [mild[0] | {"subject": "p1"}, *mild[1:]]))


@pytest.mark.parametrize(
    ("column", "message"), [("one", "all scans have 'x'"), ("none", "none of its values is known")]
)
def test_a_column_with_nothing_to_leave_out_is_refused(tmp_path, column, message):
    with pytest.raises(ConfigError, match=rf"leave_out: {column} .*{message}"):
        planning.check(*plan(tmp_path, {"leave_out": column}))
    planning.check(*plan(tmp_path, {"leave_out": "site"}))
    left = [row | {"exclude": "yes" if row["site"] == "b" else ""} for row in ROWS]
    with pytest.raises(ConfigError, match="all scans have 'a'"):
        planning.check(*plan(tmp_path, {"leave_out": "site"}, left))


@pytest.mark.parametrize(
    ("study", "key"),
    [
        ({"evaluation": {"targets": graded("sight")}}, "evaluation.targets"),
        ({"evaluation": {"stratify": "sight"}}, "evaluation.stratify"),
        ({"evaluation": {"leave_out": "sight"}}, "evaluation.leave_out"),
        ({"evaluation": {"confounders": ["sight"]}}, "evaluation.confounders"),
        (
            {"baselines": [{"name": "who", "method": "clinical", "options": {"columns": ["sight"]}}]},
            "options.columns of baseline who",
        ),
    ],
)
def test_the_key_that_names_a_missing_column_is_named(tmp_path, study, key):
    with pytest.raises(ManifestError, match=r"no label column 'sight'.*'site'") as fault:
        planning.check(*plan(tmp_path, **study))
    assert fault.value.advice == f"correct {key} or add the column"


TIMES = {"targets": [{"name": "death", "column": "days", "task": "survive", "event": "died"}]}


@pytest.mark.parametrize(
    ("study", "library", "extra"),
    [
        ({"evaluation": TIMES}, "scikit-survival", "survival"),
        ({"baselines": [{"name": "fine", "method": "texture"}]}, "mahotas", "texture"),
    ],
)
def test_a_library_that_is_not_installed_is_named(tmp_path, monkeypatch, study, library, extra):
    chosen, _ = plan(tmp_path, **study)
    planning.check_libraries(chosen)
    monkeypatch.setattr(planning, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=f"the library {library}, which is not installed") as fault:
        planning.check_libraries(chosen)
    assert f".[{extra}]" in fault.value.advice
    planning.check_libraries(plan(tmp_path)[0])
