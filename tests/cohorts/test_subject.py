"""Who is drawn, how people change between visits, and the labels that follow from their lungs."""

from dataclasses import fields, replace

import numpy as np
import pytest

from ctssl.cohorts.phantom.disease import LESIONS, Disease
from ctssl.cohorts.phantom.subject import (
    Burden,
    Gradient,
    Subject,
    burden,
    draw_subject,
    gold,
    labels,
    returning,
    visit,
)

PEOPLE = [draw_subject(11, number) for number in range(300)]
LABELS = {
    **dict.fromkeys(("age", "height_cm", "bmi", "pack_years", "fev1pp", "fev1_fvc", "survival_years"), float),
    **dict.fromkeys(("gold", "mmrc", "exacerbations", "nodules"), int),
    **dict.fromkeys(("centrilobular", "paraseptal", "panlobular", "ground_glass", "reticulation"), int),
    **dict.fromkeys(("sex", "exacerbation_followup", "died", "texture", "severe"), str),
    **dict.fromkeys(("emphysema_percent", "ground_glass_percent"), float),
    **dict.fromkeys(("consolidation_percent", "reticulation_percent"), float),
}


def typical(disease: Disease) -> Burden:
    """Percent of the lungs, from the table of shares: upper zones are 45 % of the lungs, lower ones 50 %."""
    return Burden(
        centrilobular=(0.0, 1.1, 3.2, 7.9, 15.4, 26.5)[disease.centrilobular],
        paraseptal=(0.0, 2.1, 4.9)[disease.paraseptal],
        panlobular=(0.0, 10.3, 23.0)[disease.panlobular],
        ground_glass=(0.0, 10.0, 32.0, 52.0, 65.0)[disease.ground_glass],
        consolidation=(0.0, 0.0, 3.0, 8.0, 15.0)[disease.ground_glass],
        reticulation=(0.0, 5.3, 11.0)[disease.reticulation],
    )


ROWS = [labels(person, typical(person.disease)) for person in PEOPLE]


def same(a: Subject, b: Subject) -> bool:
    """Equal in all that can be compared; arrays of the deformation by their numbers."""
    plain = [f.name for f in fields(Subject) if f.name != "deformation"]
    return a.deformation.to_json() == b.deformation.to_json() and all(
        getattr(a, name) == getattr(b, name) for name in plain
    )


def test_a_person_depends_on_seed_and_number_only():
    assert all(same(draw_subject(11, number), PEOPLE[number]) for number in (250, 3, 17))
    assert not same(draw_subject(12, 3), PEOPLE[3])
    assert len({person.seed for person in PEOPLE}) == len(PEOPLE)


@pytest.mark.parametrize("cohort_seed", [0, 1, 7, 2**31])
def test_small_cohorts_hold_every_grade_with_every_texture(cohort_seed):
    diseases = [draw_subject(cohort_seed, number).disease for number in range(24)]
    for start in range(0, 24, 6):
        assert {d.centrilobular for d in diseases[start : start + 6]} == set(range(6))
        assert sum(d.ground_glass > 0 for d in diseases[start : start + 6]) == 2
    for start in (0, 12):
        cells = {(d.centrilobular, d.texture) for d in diseases[start : start + 12]}
        assert len(cells) == 12


def test_every_finding_occurs_often_enough_to_be_learned():
    for name, top in (("paraseptal", 2), ("panlobular", 2), ("ground_glass", 4), ("reticulation", 2)):
        grades = [getattr(person.disease, name) for person in PEOPLE]
        assert set(grades) == set(range(top + 1))
        assert 0.15 < np.mean(np.array(grades) > 0) < 0.6
    assert 0.5 < np.mean([person.disease.nodules > 0 for person in PEOPLE]) < 0.75


def test_bodies_are_people():
    for person in PEOPLE:
        assert person.sex in ("M", "F")
        assert 45 <= person.age <= 80
        assert 145 <= person.height_cm <= 200
        assert 17 <= person.bmi <= 42
        assert 8 <= person.fat_mm <= 45
        assert person.pack_years >= 0
        assert -885 <= person.gradient.mean_hu <= -840
    tall = {sex: np.mean([p.height_cm for p in PEOPLE if p.sex == sex]) for sex in "MF"}
    assert 9 < tall["M"] - tall["F"] < 19
    assert np.corrcoef([p.bmi for p in PEOPLE], [p.fat_mm for p in PEOPLE])[0, 1] > 0.8


def test_emphysema_keeps_air_in():
    lowered = {
        g: [p.deformation.diaphragm_mm for p in PEOPLE if p.disease.centrilobular == g] for g in (0, 5)
    }
    assert np.mean(lowered[5]) > np.mean(lowered[0]) + 3


def test_lungs_are_denser_at_the_back_and_at_the_base():
    gradient = Gradient(-860.0, 0.3, 0.1)
    points = np.array([[0, 0, 0], [0, 50, 0], [0, 0, -50], [99, 0, 0]], np.float32)
    assert gradient.hu(points) == pytest.approx([-860, -845, -855, -860])
    assert gradient.hu(points).dtype == np.float32


@pytest.mark.parametrize("number", range(12))
def test_at_the_next_visit_people_are_older_and_sicker_in_the_same_body(number):
    first = PEOPLE[number]
    second = visit(first, 1)
    assert same(second, visit(first, 1))
    assert second.age == pytest.approx(first.age + 5)
    assert second.seed != first.seed
    for name in ("centrilobular", "paraseptal", "nodules"):
        assert getattr(second.disease, name) >= getattr(first.disease, name)
    grade = first.disease.centrilobular
    assert second.disease.centrilobular == (min(grade + 1, 5) if grade else 0)
    assert second.disease.texture == first.disease.texture
    assert (second.number, second.sex, second.height_cm) == (first.number, first.sex, first.height_cm)
    before, after = first.deformation, second.deformation
    for name in ("matrix", "shift_mm", "waves", "phases", "amplitudes_mm"):
        assert np.array_equal(getattr(before, name), getattr(after, name))
    assert before.diaphragm_mm != after.diaphragm_mm


def test_visits_are_counted_from_the_first():
    assert visit(PEOPLE[0], 0) is PEOPLE[0]
    assert visit(PEOPLE[0], 2).age == pytest.approx(PEOPLE[0].age + 10)
    with pytest.raises(ValueError, match="from the first"):
        visit(visit(PEOPLE[0], 1), 2)


def rows_of_visits(number: int, *visits: int) -> list[dict]:
    seen = [visit(returning(PEOPLE[number]), n) for n in visits]
    return [labels(who, typical(who.disease)) for who in seen]


def test_a_person_dies_once_whatever_the_visit_and_never_before_the_second():
    died = 0
    for number in range(len(PEOPLE)):
        first, second = rows_of_visits(number, 0, 1)
        assert first["survival_years"] > 5
        assert second["survival_years"] > 0
        if first["died"] == "yes":
            assert second["died"] == "yes"
            assert second["survival_years"] + 5 == pytest.approx(first["survival_years"], abs=0.011)
        else:
            assert second["survival_years"] >= 5
        died += first["died"] == "yes"
    assert died > 30


def test_some_die_within_five_years_unless_they_come_again():
    years = np.array([labels(who, Burden())["survival_years"] for who in PEOPLE])
    assert 0.03 < (years < 5).mean() < 0.4
    assert all(returning(who).lives_years > 5 for who in PEOPLE)


def test_who_is_scanned_after_the_drawn_death_dies_soon():
    lost = replace(PEOPLE[0], lives_years=6.0)
    assert labels(visit(lost, 1), Burden())["survival_years"] == 1.0
    assert labels(visit(lost, 2), Burden())["survival_years"] == 0.1


def test_smokers_go_on_and_others_do_not_begin():
    packs = np.array([[r["pack_years"] for r in rows_of_visits(n, 0, 1, 2)] for n in range(40)])
    smokes = packs[:, 0] > 0
    assert 5 < smokes.sum() < 40
    np.testing.assert_allclose(packs[smokes] - packs[smokes, :1], [[0, 2.5, 5]] * smokes.sum())
    assert not packs[~smokes].any()


@pytest.mark.parametrize(
    ("fev1pp", "ratio", "stage"),
    [
        *[(95, 0.75, 0), (80, 0.70, 0), (79.9, 0.70, -1), (20, 0.85, -1)],
        *[(110, 0.699, 1), (80, 0.6, 1), (79.9, 0.6, 2), (50, 0.6, 2)],
        *[(49.9, 0.5, 3), (30, 0.5, 3), (29.9, 0.5, 4), (12, 0.2, 4)],
    ],
)
def test_gold_stages_part_where_the_report_says(fev1pp, ratio, stage):
    assert gold(fev1pp, ratio) == stage


def test_labels_are_plain_values_of_the_right_kind():
    for row in ROWS:
        assert {name: type(value) for name, value in row.items()} == LABELS
        assert row["gold"] == gold(row["fev1pp"], row["fev1_fvc"])
        assert 0 <= row["mmrc"] <= 4
        assert 0 <= row["survival_years"] <= 10
        assert (row["died"] == "no") == (row["survival_years"] == 10)
        assert row["severe"] == ("yes" if row["centrilobular"] >= 3 else "no")
        assert {row["died"], row["exacerbation_followup"], row["severe"]} <= {"yes", "no"}


def test_the_same_lungs_give_the_same_labels_and_sicker_ones_worse():
    person = PEOPLE[5]
    assert labels(person, Burden(centrilobular=9)) == labels(person, Burden(centrilobular=9))
    fev1pp = [labels(person, Burden(centrilobular=percent))["fev1pp"] for percent in range(0, 30, 5)]
    assert fev1pp == sorted(fev1pp, reverse=True)
    assert labels(person, Burden(ground_glass=60))["fev1pp"] < labels(person, Burden())["fev1pp"] - 5


def column(name: str) -> np.ndarray:
    return np.array([row[name] for row in ROWS])


def test_labels_hang_together_as_in_a_study():
    emphysema, fev1pp = column("emphysema_percent"), column("fev1pp")
    assert -0.9 < np.corrcoef(emphysema, fev1pp)[0, 1] < -0.7
    assert np.corrcoef(fev1pp, column("fev1_fvc"))[0, 1] > 0.6
    assert np.corrcoef(fev1pp, column("mmrc"))[0, 1] < -0.6
    assert np.corrcoef(fev1pp, column("exacerbations"))[0, 1] < -0.15
    assert fev1pp[column("died") == "yes"].mean() < fev1pp[column("died") == "no"].mean() - 10
    assert 0.15 < np.mean(column("died") == "yes") < 0.5
    assert set(column("gold")) == {-1, 0, 1, 2, 3, 4}
    assert set(column("mmrc")) == {0, 1, 2, 3, 4}
    assert set(column("exacerbations")) >= {0, 1, 2}


def test_burden_counts_lesions():
    lesions = np.zeros((4, 10, 10), np.uint8)
    lesions[0, 0] = 1
    lesions[1, :2] = 4
    lesions[2, 3, :4] = 3
    found = burden(lesions, 200)
    assert found == Burden(centrilobular=5.0, ground_glass=10.0, panlobular=2.0)
    assert found.emphysema == pytest.approx(7.0)
    assert burden(lesions[3:], 200) == Burden()
    with pytest.raises(ValueError, match="no lung"):
        burden(lesions, 0)


def test_burden_has_a_field_for_every_lesion_in_the_order_of_labels():
    assert [f.name for f in fields(Burden)] == [name.replace(" ", "_") for name in LESIONS.values()]
