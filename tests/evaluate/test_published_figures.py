"""The published figures are those of the paper, copied by another hand, and agree with what its text says."""

import pytest

from ctssl.evaluate.published import OWN, PUBLISHED

ONE = PUBLISHED["copdgene"]


# Typed a second time, from the paper's text, which holds its first table by columns: not from published.py.
METHODS = (
    *("LAA-950", "K-Means", "Divergence-based", "MedicalNet", "ModelsGenesis", "MoCo"),
    *("2D CNN (supervised)", "Subject2Vec (supervised)"),
    *(f"{OWN} w/o CE", f"{OWN} w/o graph", OWN),
)
FIRST = {
    "fev1pp": "0.44±.02 0.55±.03 0.58±.03 0.47±.10 0.58±.01 0.40±.02"
    " 0.53 0.67±.03 0.56±.03 0.60±.01 0.62±.01",
    "fev1-fvc": "0.60±.01 0.68±.02 0.70±.02 0.59±.06 0.64±.01 0.49±.02 - 0.74±.01 0.65±.03 0.69±.01 0.70±.01",
    "gold": "55.8 57.3 58.9 57.0±1.3 59.5±2.3 52.7±1.1 51.1 65.4 61.6±1.2 62.5±1.0 63.2±1.1",
    "cle": "32.9 - - 40.3±1.9 41.8±1.4 36.5±0.7 - 40.6 48.1±0.4 49.2±1.1 50.4±1.3",
    "paraseptal": "33.3 - - 53.1±0.7 52.7±0.5 52.5±1.4 - 52.8 55.5±0.8 55.8±1.3 56.2±1.1",
    "ae-history": "73.8 - - 78.7±1.3 77.8±0.8 78.6±0.9 60.4 76.9 78.8±1.2 78.7±1.5 78.8±1.3",
    "future-ae": "73.8 - - 81.4±1.7 76.7±1.2 82.0±1.2 - 68.3 80.8±1.7 80.7±1.7 81.1±1.6",
    "mmrc": "41.6 - - 47.9±1.2 46.0±1.2 46.4±1.7 - 43.6 50.4±1.0 50.6±0.8 51.0±1.0",
}
SECOND = {
    **{"MedicalNet": 62.1, "ModelsGenesis": 62.0, "MoCo": 62.1, "3D CNN (supervised)": 61.2},
    **{f"{OWN} w/o CE": 63.3, f"{OWN} w/o graph": 64.3, OWN: 65.3},
}
THIRD = {
    ("MedicalNet", "data of its authors"): 85.0,
    ("ModelsGenesis", "COPDGene"): 92.5,
    ("ModelsGenesis", "MosMed"): 88.7,
    ("MoCo", "COPDGene"): 75.0,
    ("MoCo", "MosMed"): 86.3,
    ("3D CNN (supervised)", "nothing"): 77.5,
    (OWN, "COPDGene"): 90.0,
    (OWN, "MosMed"): 96.3,
}


def figure(method, target):
    """Mean and standard deviation in the first table, or None."""
    (row,) = (r for r in ONE.rows if r.method == method)
    found = row.figures.get(target)
    return found and (found.mean, found.sd)


def typed(cell):
    """What a cell of FIRST says."""
    mean, _, sd = cell.partition("±")
    return None if cell == "-" else (float(mean), float(sd) if sd else None)


def test_methods_and_targets_of_the_first_table():
    assert tuple(row.method for row in ONE.rows) == METHODS
    assert [column.target for column in ONE.columns] == list(FIRST)


@pytest.mark.parametrize("target", FIRST)
def test_figures_of_the_first_table(target):
    expected = [typed(cell) for cell in FIRST[target].split()]
    assert [figure(method, target) for method in METHODS] == expected


def test_figures_of_the_other_tables():
    second, third = (
        [((r.method, r.pretrained_on), r.figures[target]) for r in PUBLISHED[name].rows]
        for name, target in (("mosmed", "severity"), ("covid19-ct", "covid"))
    )
    assert {method: found.mean for (method, _), found in second} == SECOND
    assert {row: found.mean for row, found in third} == THIRD
    assert (len(second), len(third)) == (len(SECOND), len(THIRD))
    assert {found.sd for _, found in second + third} == {None}


@pytest.mark.parametrize(("name", "cohort"), [("copdgene", "COPDGene"), ("mosmed", "MosMed")])
def test_on_what_the_methods_were_pretrained(name, cohort):
    on = {row.method: row.pretrained_on for row in PUBLISHED[name].rows}
    learnt = ("ModelsGenesis", "MoCo", f"{OWN} w/o CE", f"{OWN} w/o graph", OWN)
    others = dict.fromkeys(on, "nothing") | {"MedicalNet": "data of its authors"}
    assert on == others | dict.fromkeys(learnt, cohort)


def test_counts_of_what_was_reported():
    reported = {name: sum(len(row.figures) for row in table.rows) for name, table in PUBLISHED.items()}
    assert reported == {"copdgene": 8 + 3 + 3 + 3 * 8 + 3 + 4 * 8, "mosmed": 7, "covid19-ct": 8}


def test_the_own_method_is_the_best_of_those_without_labels_where_the_text_says_so():
    rivals = [row for row in ONE.rows if "supervised" not in row.method]
    for target in ("fev1pp", "fev1-fvc", "gold", "cle", "paraseptal", "ae-history", "mmrc"):
        best = max(row.figures[target].mean for row in rivals if target in row.figures)
        assert figure(OWN, target)[0] == best, target
    # and graph and conditional encoding each help
    for target in ("fev1pp", "gold", "cle"):
        values = [figure(f"{OWN}{x}", target)[0] for x in (" w/o CE", " w/o graph", "")]
        assert values == sorted(values)


def test_figures_are_of_their_metric():
    for table in PUBLISHED.values():
        scale = {column.target: 1 if column.metric == "r2" else 100 for column in table.columns}
        for row in table.rows:
            for target, found in row.figures.items():
                assert scale[target] / 4 < found.mean < scale[target]
                assert found.sd is None or 0 < found.sd < scale[target] / 9
