from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctssl.errors import CohortError
from ctssl.evaluate.splits import assign_folds, inner_folds, read_splits, write_splits

PEOPLE = [f"p{i:03}" for i in range(47)]
STRATA = {name: "abc"[i % 7 % 3] for i, name in enumerate(PEOPLE)}

cohorts = st.dictionaries(st.text("abcdef", min_size=1, max_size=5), st.sampled_from("xyz"), max_size=60)


def spread(counts):
    return max(counts) - min(counts)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cohorts, st.integers(2, 7), st.integers(0, 5), st.randoms(use_true_random=False))
def test_folds_are_even_in_total_and_per_stratum_in_any_order(strata, folds, seed, shuffler):
    result = assign_folds(list(strata), strata, folds, seed, {})
    mixed = list(strata) * 2
    shuffler.shuffle(mixed)
    assert assign_folds(mixed, strata, folds, seed, {}) == result
    assert result.keys() == strata.keys()
    assert set(result.values()) <= set(range(folds))
    for stratum in [None, *"xyz"]:
        held = Counter(f for s, f in result.items() if stratum in (None, strata[s]))
        assert spread([held[f] for f in range(folds)]) <= 1


@settings(max_examples=40, deadline=None, derandomize=True)
@given(cohorts, cohorts, st.integers(2, 5))
def test_old_subjects_keep_their_fold_and_new_ones_fill_the_gaps(old, new, folds):
    before = assign_folds(list(old), old, folds, 1, {})
    strata = {**new, **old}
    after = assign_folds(list(strata), strata, folds, 1, before)
    assert {s: after[s] for s in old} == before
    assert after.keys() == strata.keys()
    # Each stratum was even; filling the emptiest fold first leaves it even.
    for stratum in "xyz":
        held = Counter(f for s, f in after.items() if strata[s] == stratum)
        assert spread([held[f] for f in range(folds)]) <= 1


def test_a_new_subject_prefers_its_stratum_over_the_total():
    kept = {"a": 0, "b": 1, "c": 1, "d": 1}
    strata = {"a": "ill", "b": "well", "c": "well", "d": "well", "new": "ill", "other": "odd"}
    assert assign_folds(["a", "b", "c", "d", "new"], strata, 2, 0, kept)["new"] == 1
    assert assign_folds(["a", "b", "c", "d", "other"], strata, 2, 0, kept)["other"] == 0


def test_seeds_give_different_splits_and_one_seed_the_same():
    splits = [assign_folds(PEOPLE, None, 5, seed, {}) for seed in (0, 0, 1, 2)]
    assert splits[0] == splits[1]
    assert splits[0] != splits[2] != splits[3]


def test_a_split_is_the_one_of_last_year():
    # Golden: a changed rule must not move subjects between folds unseen.
    result = assign_folds(list("abcdefgh"), dict(zip("abcdefgh", "xxxxyyyy", strict=True)), 3, 0, {})
    assert result == {"a": 2, "b": 0, "c": 1, "d": 2, "e": 2, "f": 1, "g": 0, "h": 0}


def test_those_who_left_keep_their_fold_but_do_not_weigh():
    kept = {"gone": 0, "gone2": 0, "a": 1}
    result = assign_folds(["a", "new"], None, 2, 0, kept)
    assert result == {"gone": 0, "gone2": 0, "a": 1, "new": 0}


def test_a_kept_fold_beyond_the_folds_is_an_error():
    with pytest.raises(CohortError, match="p is in fold 5"):
        assign_folds(["p"], None, 5, 0, {"p": 5})


def test_the_file_is_left_alone_when_nothing_changes(tmp_path):
    path = tmp_path / "deep" / "splits.csv"
    first = write_splits(path, PEOPLE, STRATA, 5, 0)
    assert read_splits(path) == first == assign_folds(PEOPLE, STRATA, 5, 0, {})
    assert path.read_text().splitlines()[:2] == ["subject,fold", f"p000,{first['p000']}"]
    path.write_text(path.read_text().replace("\n", "\r\n"))  # a person's editor
    before, stamp = path.read_bytes(), path.stat().st_mtime_ns
    assert write_splits(path, PEOPLE[::-1], STRATA, 5, 0) == first
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, stamp)
    assert list(path.parent.iterdir()) == [path]


def test_the_file_grows_and_keeps_what_it_said(tmp_path):
    path = tmp_path / "splits.csv"
    first = write_splits(path, PEOPLE[:30], STRATA, 5, 0)
    second = write_splits(path, PEOPLE, STRATA, 5, 0)
    assert len(second) == 47
    assert first.items() <= second.items()
    assert read_splits(path) == second


@pytest.mark.parametrize("folds", [3, 7])
def test_another_number_of_folds_splits_anew(tmp_path, folds):
    path = tmp_path / "splits.csv"
    write_splits(path, PEOPLE, None, 5, 0)
    assert write_splits(path, PEOPLE, None, folds, 0) == assign_folds(PEOPLE, None, folds, 0, {})


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("subject,part\na,0\n", "columns subject, fold"),
        ("subject,fold\na,one\n", "fold of a .* 'one'"),
        ("subject,fold\na,-1\n", "fold of a .* '-1'"),
        ("subject,fold\na\n", "fold of a"),
        ("subject,fold\na,0\na,1\n", "a come.* twice"),
    ],
)
def test_a_file_that_is_no_splits_file_is_an_error(tmp_path, text, fault):
    path = tmp_path / "splits.csv"
    path.write_text(text)
    with pytest.raises(CohortError, match=fault) as caught:
        write_splits(path, ["a"], None, 2, 0)
    assert "delete it" in caught.value.advice
    assert path.read_text() == text


def test_inner_folds_keep_subjects_whole_and_leave_every_class_to_train_on():
    subjects = ["a", "a", "b", "c", "d", "e", "e"]
    classes = ["1", "2", "1", "1", "2", "2", "2"]
    folds = inner_folds(subjects, classes, 5)
    assert len({f for s, f in zip(subjects, folds, strict=True) if s == "e"}) == 1
    for fold in set(folds):
        left = {c for c, f in zip(classes, folds, strict=True) if f != fold}
        assert left == {"1", "2"}
    assert inner_folds(["a", "b", "c"], ["1", "1", "2"], 5) is None
    assert sorted(inner_folds(["a", "b", "c"], None, 5)) == [0, 1, 2]
