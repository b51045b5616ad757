"""What the card of weights tells of the cohort: nothing of few scans, and nothing that nobody measured."""

from dataclasses import replace

import numpy as np
from train import synthetic

from ctssl.train.batches import Cohort


def card_of(people, out, measures):
    stores = [
        replace(store, card={**store.card, "measures": m})
        for store, m in zip(people.stores, measures, strict=True)
    ]
    job = replace(
        synthetic.job(people, out), stores=stores, about={"data_licence": "CC0-1.0", "cohort_name": "Theirs"}
    )
    return job.card(Cohort.of(stores, people.subjects), [3])


def test_quartiles_are_of_what_was_measured(tmp_path):
    people = synthetic.cohort(tmp_path, scans=9)
    values = [4.0, 8, 1.5, 0.25, 30.0, 12.0, 2.0, 3.0, 5.0]
    card = card_of(people, tmp_path, [{"laa_950_percent": v} for v in values])
    low, middle, high = card["cohort"]["laa_950_percent"]
    assert [low, middle, high] == [2.0, 4.0, 8.0] == np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    assert card["cohort"]["valid_landmarks_percent"][2] == 100
    assert (card["data_licence"], card["preparation"], card["axes"]) == ("CC0-1.0", None, "LPS")
    assert card["cohort_name"] == "Theirs"


def test_strange_measures_of_stores_from_elsewhere_end_no_training(tmp_path):
    people = synthetic.cohort(tmp_path, scans=9)
    strange = [{"laa_950_percent": v} for v in ("5", float("nan"), None, True, 1e400, -3)]
    card = card_of(people, tmp_path, [*strange, None, [], {"laa_950_percent": 4}])
    assert set(card["cohort"]) == {"valid_landmarks_percent"}


def test_few_scans_are_not_told_of(tmp_path):
    people = synthetic.cohort(tmp_path, scans=7)
    assert card_of(people, tmp_path, [{"laa_950_percent": 4.0}] * 7)["cohort"] == {}
