"""What a card says of the preparation is what the stages were told, and changes when that does."""

import json

import pytest
import yaml

from ctssl import config, preparation, settings
from ctssl.errors import WeightsError
from ctssl.manifest import read_manifest


@pytest.fixture
def chosen(tmp_path):
    """A config of overlays on the defaults, and its manifest of one scan."""
    (tmp_path / "a.nii").touch()
    (tmp_path / "scans.csv").write_text("scan,subject,image\na,p,a.nii\n")

    def of(**overlay):
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump({"manifest": str(tmp_path / "scans.csv"), **overlay}))
        found = config.read(path)
        return found, read_manifest(found.manifest)

    return of


OVERLAYS = [
    {},
    {"mask": {"method": "threshold", "min_lung_l": 0.2}},
    {"mask": {"model": "LTRCLobes"}},
    {"registration": {"syn_iterations": [5], "threads": 3}},
    {"graph": {"edges": "overlap", "min_overlap": 0.2}},
    {"graph": {"edges": "topology"}},
    {"store": {"min_inside_fraction": 0.25}},
    {"volume": {"hu_min": -1000}},
]


@pytest.mark.parametrize("overlay", OVERLAYS, ids=str)
def test_the_stages_are_told_what_the_workflow_told_them(chosen, overlay, tmp_path):
    found, manifest = chosen(**overlay)
    known = preparation.of_card(json.loads(preparation.about(found)), tmp_path)
    assert known.settings("register") == settings.register(found)
    assert known.settings("store") == settings.store(found)
    assert known.settings("box") == settings.box(found)
    theirs = settings.parse("volume", settings.volume(found, manifest, "a"))
    image = {key: theirs[key] for key in ("image", "series_uid", "mask_image")}
    ours = settings.parse("volume", known.settings("volume", **image))
    for values in (theirs, ours):
        values["mask"] = {k: v for k, v in values["mask"].items() if v is not None and "weights" not in k}
    assert ours == {key: value for key, value in theirs.items() if not key.endswith("_stamp")}


def test_what_changes_a_store_changes_the_card(chosen):
    told = [preparation.about(chosen(**overlay)[0]) for overlay in OVERLAYS]
    assert len(set(told)) == len(told)


def test_the_card_names_no_path(chosen, tmp_path):
    weights = tmp_path / "my weights.pth"
    weights.touch()
    text = preparation.about(chosen(mask={"weights": str(weights)}, atlas={"spacing_mm": 2})[0])
    assert str(tmp_path) not in text
    assert "my weights" not in text
    assert json.loads(text)["preparation"]["mask"]["own_weights"]


def test_a_prepared_study_knows_of_no_preparation(chosen, tmp_path):
    found, _ = chosen(prepared=str(tmp_path), data_licence="CC0-1.0", cohort="Theirs")
    named = {"data_licence": "CC0-1.0", "cohort_name": "Theirs"}
    assert json.loads(preparation.about(found)) == named | {"preparation": None}
    assert preparation.of_card({}, tmp_path) is None


@pytest.mark.parametrize("damage", [3, [], {}, {"recipes": 1}, "text"])
def test_a_strange_card_is_refused_in_words(chosen, tmp_path, damage):
    with pytest.raises(WeightsError, match="in a way that this version does not know") as fault:
        preparation.of_card({"preparation": damage, "ctssl": "9" * 99}, tmp_path)
    assert len(str(fault.value)) < 700
