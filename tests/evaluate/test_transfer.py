"""On what a row was pretrained: what cards say, and what they do not."""

import pytest

from ctssl.evaluate.transfer import Origin, origin

OURS = {"recipes": {"volume": 3}, "volume": {"hu_min": -1024}, "mask": {}, "registering": {}, "storing": {}}


@pytest.mark.parametrize(
    ("how", "cohort", "said"),
    [
        ("nothing", "MosMed", "nothing"),
        ("all", "MosMed", "MosMed (this cohort, transductive)"),
        ("all", "", "this cohort (transductive)"),
        ("folds", "MosMed", "MosMed (this cohort, inside the folds)"),
        ("folds", "", "this cohort (inside the folds)"),
    ],
)
def test_what_was_trained_here(how, cohort, said):
    assert origin(how, cohort) == Origin(said)


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ({"cohort_name": "COPDGene"}, "COPDGene"),
        ({"cohort_name": " mosmed "}, "mosmed (this cohort, transductive)"),
        ({"cohort_name": "", "imported": [{"file": "a.pth"}]}, "data of its authors"),
        ({"cohort_name": ""}, "not stated"),
        ({}, "not stated"),
        ({"cohort_name": 7}, "not stated"),
        ({"method": "untrained", "cohort_name": "COPDGene"}, "nothing"),
    ],
)
def test_what_a_card_says(card, said):
    assert origin("given", "MosMed", card, OURS).on == said


def test_an_unnamed_cohort_is_not_taken_for_another_unnamed_one():
    assert origin("given", "", {"cohort_name": ""}).on == "not stated"


def test_another_preparation_is_said():
    alike = {"cohort_name": "COPDGene", "preparation": OURS | {"quality": {"warn_dice": 0.1}}}
    assert origin("given", "", alike, OURS).remark == ""
    other = alike | {"preparation": OURS | {"mask": {"method": "threshold"}, "recipes": {"volume": 2}}}
    assert origin("given", "", other, OURS).remark.endswith("prepared otherwise than these: recipes, mask")
    assert "is not known" in origin("given", "", {"cohort_name": "COPDGene"}, OURS).remark
    assert "of this study were prepared is not known" in origin("given", "", alike, None).remark


@pytest.mark.parametrize("part", OURS)
def test_each_part_of_a_preparation_counts(part):
    card = {"cohort_name": "COPDGene", "preparation": OURS | {part: {"other": 1}}}
    assert origin("given", "", card, OURS).remark.endswith(f"prepared otherwise than these: {part}")
