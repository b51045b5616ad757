"""Tables of hand-made features, from cards and from patches of small stores."""

import json

import numpy as np
import pandas as pd
import pytest
from evaluate.small_stores import make_store

from ctssl.config.baselines import Divergence
from ctssl.errors import CohortError, StoreError
from ctssl.evaluate import baselines
from ctssl.evaluate.baselines import Cohort, write_baseline
from ctssl.prepare.densitometry import MEASURES
from ctssl.store.reader import open_stores

SMALL = {"least_patches": 4}
ALL = dict.fromkeys(MEASURES, 1.5) | {"laa_950_percent": 12.5}


@pytest.fixture
def cohort(tmp_path):
    """Three scans of two subjects; the second has 3 valid landmarks only."""
    for name, valid in (("b", 8), ("few", 3), ("a", 8)):
        make_store(tmp_path / name, name, valid, measures=ALL)
    stores = open_stores([tmp_path / name for name in ("b", "few", "a")])
    return Cohort(stores, ["q", "q", "p"], tmp_path / "cache")


def written(method, cohort, out, **options):
    write_baseline(method, options, cohort, out)
    return pd.read_parquet(out)


def test_low_attenuation_is_the_measure_of_the_cards(cohort, tmp_path):
    table = written("laa-950", cohort, tmp_path / "laa-950" / "features.parquet")
    assert table.to_dict("list") == {
        "scan": ["b", "few", "a"],
        "subject": ["q", "q", "p"],
        "f000": [12.5] * 3,
    }
    assert table.f000.dtype == np.float64


def test_densitometry_is_all_measures_in_their_order(cohort, tmp_path):
    table = written("densitometry", cohort, tmp_path / "all.parquet")
    assert table.filter(regex="^f").iloc[0].tolist() == [ALL[name] for name in MEASURES]


@pytest.mark.parametrize("method", ["laa-950", "densitometry"])
def test_a_card_without_the_measure_is_an_error_that_says_what_to_do(tmp_path, method):
    old = {"laa_950_percent": 3.0} if method == "densitometry" else {}
    make_store(tmp_path / "a", "a", 8, measures=old)
    cohort = Cohort(open_stores([tmp_path / "a"]), ["p"], tmp_path / "cache")
    with pytest.raises(StoreError, match=r"store .*a should have the measure laa_9[15]0_percent") as caught:
        write_baseline(method, {}, cohort, tmp_path / "out.parquet")
    assert "run the workflow again" in caught.value.advice
    assert not (tmp_path / "out.parquet").exists()


def test_the_table_of_a_bag_has_a_row_per_patch_and_says_what_is_to_be_fitted(cohort, tmp_path, capsys):
    table = written("bag-of-features", cohort, tmp_path / "bag.parquet", words=7, bins=4, **SMALL)
    assert table.scan.tolist() == ["b"] * 8 + ["few"] * 3 + ["a"] * 8
    assert table.attrs["fitted"] == {"kind": "words", "words": 7}
    assert len(table.filter(regex="^f").columns) == 4 + 16 + 3


def test_the_table_of_divergences_has_a_column_per_anchor_and_leaves_out_what_shows_too_little(
    cohort, tmp_path, capsys
):
    table = written("divergence", cohort, tmp_path / "far.parquet", neighbours=3, **SMALL)
    assert table.scan.tolist() == ["b", "a"]
    assert "few shows too few patches" in capsys.readouterr().err
    between = table.filter(regex="^f").to_numpy()
    order = [table.attrs["fitted"]["anchors"].index(scan) for scan in ("b", "a")]
    np.testing.assert_array_equal(np.diag(between[:, order]), 0)
    assert between[0, order[1]] == pytest.approx(between[1, order[0]], rel=1e-5)


def test_no_scan_with_enough_patches_is_an_error(cohort, tmp_path):
    with pytest.raises(CohortError, match="no scan shows enough"):
        written("divergence", cohort, tmp_path / "far.parquet", neighbours=8, **SMALL)


def test_what_was_computed_of_a_scan_is_kept_and_belongs_to_its_options(cohort, tmp_path, monkeypatch):
    first = written("bag-of-features", cohort, tmp_path / "bag.parquet", **SMALL)

    def gone(*_):
        raise AssertionError("the patches were read again")

    monkeypatch.setattr("ctssl.evaluate.handmade.descriptors.read_windowed", gone)
    again = written("bag-of-features", cohort, tmp_path / "bag.parquet", words=9, **SMALL)
    pd.testing.assert_frame_equal(again, first)
    written("divergence", cohort, tmp_path / "far.parquet", neighbours=2, **SMALL)  # of the same descriptors
    with pytest.raises(AssertionError, match="read again"):
        written("bag-of-features", cohort, tmp_path / "bag.parquet", bins=5, **SMALL)


@pytest.mark.parametrize(
    "change",
    [
        *({"hu_min": -900}, {"hu_max": -860}, {"least_lung": 0.7}, {"least_patches": 6}),
        *({"bins": 5}, {"gradient_bins": 5}),
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_kept_of_other_options_is_not_taken(tmp_path, change):
    """Lung falls from 1 to 0.3 over the 8 patches: 6 have 0.5, 4 have 0.7."""
    make_store(tmp_path / "a", "a")
    make_store(tmp_path / "b", "b")
    warm, fresh = (
        Cohort(open_stores([tmp_path / "a", tmp_path / "b"]), ["p", "q"], tmp_path / f"cache{n}")
        for n in (0, 1)
    )
    common = {"least_patches": 2, "least_lung": 0.95 if "least_patches" in change else 0.5}
    for method, more in (("bag-of-features", {}), ("divergence", {"neighbours": 1})):
        first = written(method, warm, tmp_path / "a.parquet", **more, **common)
        second = written(method, warm, tmp_path / "b.parquet", **more, **common | change)
        alone = written(method, fresh, tmp_path / "c.parquet", **more, **common | change)
        pd.testing.assert_frame_equal(second, alone)
        assert not second.equals(first)


def test_divergences_of_other_neighbours_are_others(cohort, tmp_path):
    one, three = (written("divergence", cohort, tmp_path / "out", neighbours=k, **SMALL) for k in (3, 5))
    assert not one.filter(regex="^f").equals(three.filter(regex="^f"))


def test_an_anchor_with_another_store_is_measured_anew_and_the_others_are_not(tmp_path):
    folder = tmp_path / "cache"

    def table(anew):
        names = ["a", "b", "c"]
        for name in names:
            if not (tmp_path / anew / name).exists():
                make_store(tmp_path / anew / name, name, mean=-700 if (name, anew) == ("a", "new") else -850)
        stores = open_stores([tmp_path / anew / name for name in names])
        found = written("divergence", Cohort(stores, names, folder), tmp_path / "out", **SMALL, neighbours=2)
        columns = found.attrs["fitted"]["anchors"]
        return pd.DataFrame(found.filter(regex="^f").to_numpy(), names, columns)

    before, files = table("old"), set(folder.iterdir())
    after = table("new")
    rest = ["b", "c"]
    assert (before.loc[rest, "a"] != after.loc[rest, "a"]).all()
    pd.testing.assert_frame_equal(before.loc[rest, rest], after.loc[rest, rest])
    assert len(set(folder.iterdir()) - files) == 2  # of the new store: its descriptors, its divergences


def test_a_new_scan_adds_its_own_files_and_touches_no_descriptor(cohort, tmp_path):
    written("divergence", cohort, tmp_path / "out", neighbours=2, **SMALL)
    before = {path.name for path in cohort.cache.iterdir()}
    make_store(tmp_path / "d", "d")
    more = Cohort(open_stores([tmp_path / name for name in ("b", "few", "a", "d")]), [*"qqpr"], cohort.cache)
    written("divergence", more, tmp_path / "out", neighbours=2, **SMALL)
    added = {path.name for path in cohort.cache.iterdir()} - before
    digest = more.stores[3].card["digest"]
    assert before <= {path.name for path in cohort.cache.iterdir()}
    assert len(added) == 2
    assert all(name.startswith(digest) for name in added)


def test_anchors_are_drawn_whatever_the_order_and_new_scans_seldom_move_them(cohort, tmp_path):
    def anchors(chosen):
        out = tmp_path / "out"
        return written("divergence", chosen, out, neighbours=2, anchors=2, **SMALL).attrs["fitted"]["anchors"]

    turned = Cohort(cohort.stores[::-1], cohort.subjects[::-1], cohort.cache)
    assert anchors(turned) == anchors(cohort)
    assert len(anchors(cohort)) == Divergence(anchors=2).anchors


def test_a_recipe_makes_all_anew(monkeypatch):
    before = baselines._how("descriptors", {"bins": 3})
    monkeypatch.setitem(baselines.RECIPES, "baseline", 99)
    assert baselines._how("descriptors", {"bins": 3}) != before


def test_a_table_is_written_with_its_attributes(cohort, tmp_path):
    written("bag-of-features", cohort, tmp_path / "bag.parquet", **SMALL)
    import pyarrow.parquet as pq

    said = json.loads(pq.read_schema(tmp_path / "bag.parquet").metadata[b"PANDAS_ATTRS"])
    assert said == {"fitted": {"kind": "words", "words": 64}}
