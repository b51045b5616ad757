"""What Snakemake compares of each stage: it must change exactly when the stage's result may."""

import csv
import json
import os

import pytest
import yaml

from ctssl import config, settings, settings_probes, settings_scores, settings_tables
from ctssl.errors import ConfigError
from ctssl.manifest import read_manifest
from ctssl.recipes import RECIPES

STUDY = {
    "runs": [{"name": "one", "method": "context-aware", "label": "Ours"}],
    "evaluation": {
        "stratify": None,
        "confounders": ["site"],
        "leave_out": "site",
        "published": "copdgene",
        "targets": [
            {"name": "fev1", "column": "fev1", "task": "regress"},
            {"name": "gold", "column": "gold", "task": "classify"},
        ],
    },
}
ROWS = [
    {"scan": "a", "subject": "p1", "image": "a.nii", "fev1": "80", "gold": "1", "site": "x", "note": ""},
    {"scan": "b", "subject": "p2", "image": "b.nii", "fev1": "90", "gold": "0", "site": "y", "note": ""},
]
OF_SCAN = {"volume"}
PREPARED = {"pretrain", "fold"}  # their settings hold those of the preparation
LABELLED = {"fold", "join"}
TABLES = {"tables", "paper", "pairs"}
CONFOUNDED = {"confounder", "alone"}
ROWED = {"confounding", "curves", "tables_by"}
PROBES = {"probe", "probe_by", "probe_inside", "curve"}


@pytest.fixture
def study(tmp_path):
    for name in ("a.nii", "b.nii", "m.nii", "ct.nii"):
        (tmp_path / name).write_text(name)
    return tmp_path


def texts(folder, overlay=None, rows=ROWS) -> dict[str, str]:
    """Stage -> settings, of scan a where there is one per scan, of target fev1."""
    with (folder / "scans.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, sorted({name for row in rows for name in row}))
        writer.writeheader()
        writer.writerows(rows)
    paths = [folder / "study.yaml", folder / "overlay.yaml"]
    paths[0].write_text(yaml.safe_dump({**STUDY, "manifest": str(folder / "scans.csv")}))
    paths[1].write_text(yaml.safe_dump(overlay or {}))
    chosen = config.read(*paths)
    manifest = read_manifest(chosen.manifest)
    return {
        "atlas": settings.atlas(chosen, manifest),
        "volume": settings.volume(chosen, manifest, "a"),
        "register": settings.register(chosen),
        "store": settings.store(chosen),
        "box": settings.box(chosen),
        "pack": settings.pack(chosen),
        "cohort": settings.cohort(chosen, manifest),
        "enough": settings.enough(chosen),
        "pretrain": settings.pretrain(chosen, manifest, "one"),
        "features": settings.features(chosen),
        "baseline": settings.baseline(chosen, manifest, "laa-950"),
        "fold": settings.fold(chosen, manifest, "one", "fev1"),
        "join": settings.join(chosen, manifest, "one", "fev1"),
        "splits": settings_probes.splits(chosen),
        "splits_by": settings_probes.splits_by(chosen, manifest),
        "probe": settings_probes.probe(chosen, manifest, "fev1"),
        "probe_by": settings_probes.probe_by(chosen, manifest, "fev1"),
        "probe_inside": settings_probes.probe_inside(chosen, manifest, "fev1"),
        "tables": settings_tables.tables(chosen),
        "paper": settings_tables.paper(chosen),
        "confounder": settings_tables.confounder(chosen, manifest, "site"),
        "alone": settings_tables.alone(chosen, manifest, "site", "fev1"),
        "confounding": settings_tables.confounding(chosen),
        "tables_by": settings_tables.tables_by(chosen),
        "figures": settings.figures(chosen, manifest),
        "pairs": settings_scores.pairs(chosen),
        "curve": settings_scores.curve(chosen, manifest, "fev1"),
        "curves": settings_scores.curves(chosen),
    }


def changed(folder, overlay=None, rows=ROWS) -> set[str]:
    before, after = texts(folder), texts(folder, overlay, rows)
    return {stage for stage in before if before[stage] != after[stage]}


def test_each_text_is_json_with_stage_and_recipe(study):
    assert texts(study).keys() == RECIPES.keys()
    for stage, text in texts(study).items():
        values = json.loads(text)
        assert (values["stage"], values["recipe"]) == (stage, RECIPES[stage])
        assert text == json.dumps(values, sort_keys=True)
        assert settings.parse(stage, text) == values


RUN = STUDY["runs"][0]
TARGETS = STUDY["evaluation"]["targets"]


@pytest.mark.parametrize(
    ("overlay", "stages"),
    [
        ({"atlas": {"pitch_mm": 20.0}}, {"atlas"} | PREPARED),
        ({"volume": {"hu_min": -1000}}, {"volume"} | PREPARED),
        ({"mask": {"method": "threshold"}}, {"volume"} | PREPARED),
        ({"mask": {"model": "R231CovidWeb"}}, {"volume"} | PREPARED),
        ({"mask": {"weights": "absent.pth"}}, {"volume"} | PREPARED),
        ({"registration": {"seed": 2}}, {"register"} | PREPARED),
        ({"atlas": {"patch_voxels": 48}}, {"atlas"} | PREPARED),
        ({"graph": {"rho_mm": 40.0}}, {"register"} | PREPARED),
        ({"graph": {"edges": "topology"}}, {"register"} | PREPARED),
        ({"graph": {"min_overlap": 0.2}}, set()),  # of a rule that is not chosen
        ({"store": {"min_inside_fraction": 0.4}}, {"register"} | PREPARED),
        ({"store": {"packed": True}}, set()),  # where patches are read from, and no other patches
        ({"quality": {"warn_dice": 0.5}}, {"cohort"}),
        ({"limits": {"max_excluded_fraction": 0.5}}, {"enough"}),
        ({"pretraining": {"precision": "fp32"}}, PREPARED),
        ({"runs": [RUN | {"options": {"epochs": 3}}]}, PREPARED),
        ({"runs": [RUN | {"label": "Theirs"}]}, TABLES | ROWED | {"figures"}),
        ({"runs": [RUN | {"seeds": [0, 1]}]}, TABLES | ROWED),
        ({"evaluation": {"folds": 3}}, {"splits", "fold"}),
        ({"evaluation": {"split_seed": 3}}, {"splits", "fold"}),
        ({"evaluation": {"stratify": "gold"}}, {"splits", "fold"}),
        (
            {"evaluation": {"targets": [TARGETS[0] | {"log": True}, TARGETS[1]]}},
            PROBES | {"tables", "tables_by", "figures", "alone", "confounding", "pairs"} | LABELLED,
        ),
        (
            {"evaluation": {"targets": [*TARGETS, TARGETS[0] | {"name": "more"}]}},
            TABLES | ROWED,
        ),
        ({"evaluation": {"repeats": 3}}, {"probe_inside", "join"}),
        ({"evaluation": {"scans_of_subject": "first"}}, PROBES | {"alone", "pairs"} | LABELLED),
        ({"evaluation": {"rare": "merge"}}, set()),  # a number has no classes
        ({"evaluation": {"leave_out": "note"}}, {"splits_by", "probe_by", "tables_by"}),
        ({"evaluation": {"confounders": ["site", "note"]}}, {"confounding"}),
        ({"evaluation": {"published": "copdgene"}}, set()),
        ({"evaluation": {"label_shares": [0.1, 1]}}, {"curve"}),
        ({"evaluation": {"label_draws": 3}}, {"curve"}),
        ({"evaluation": {"reference": "laa-950"}}, {"pairs"}),
        ({"evaluation": {"reference": "one"}}, set()),
        ({"cohort": "ours"}, TABLES - {"pairs"}),
        # the machine, and where results lie, change no result
        ({"results": "elsewhere"}, set()),
        ({"limits": {"time_s": 5, "memory_gb": 2, "retries": 4, "max_voxels": 9}}, set()),
        ({"mask": {"device": "cuda"}}, set()),
        ({"pretraining": {"device": "cpu", "threads": 2, "checkpoint_steps": 7}}, set()),
        (
            {"baselines": ["laa-950", {"name": "bag", "method": "bag-of-features"}]},
            TABLES | ROWED,
        ),
        ({"baselines": [{"name": "laa-950", "label": "LAA"}]}, TABLES | ROWED),
        (
            {"baselines": [{"name": "laa-950", "method": "divergence"}]},
            TABLES | ROWED | {"baseline"},
        ),
        ({"data_licence": "CC-BY-4.0"}, set()),  # the card alone tells it
    ],
    ids=lambda value: "" if isinstance(value, set) else str(value),
)
def test_a_changed_setting_reaches_exactly_its_stages(study, overlay, stages):
    assert changed(study, overlay) == stages


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ({"fev1": "70"}, PROBES | {"figures", "alone"} | LABELLED),
        ({"site": "z"}, CONFOUNDED | {"splits_by"}),
        ({"gold": "3"}, set()),  # the target of another probe
        ({"note": "coughed"}, set()),
        ({"subject": "p9"}, {"cohort", "splits_by"} | LABELLED),
        ({"image": "m.nii"}, OF_SCAN),
        ({"mask": "m.nii"}, OF_SCAN),
        ({"exclude": "yes"}, OF_SCAN | LABELLED),
        ({"exclude_reason": "moved"}, OF_SCAN),
        ({"series_uid": "1.2.3"}, OF_SCAN),
        ({"keep": "yes", "keep_reason": "looked fine"}, {"cohort"}),
    ],
    ids=lambda value: "" if isinstance(value, set) else str(value),
)
def test_a_changed_cell_reaches_exactly_its_stages(study, change, stages):
    assert changed(study, rows=[ROWS[0] | change, ROWS[1]]) == stages


def test_a_cell_of_another_scan_does_not_touch_this_one(study):
    assert changed(study, rows=[ROWS[0], ROWS[1] | {"image": "m.nii"}]) == set()


def test_what_only_lungmask_reads_does_not_touch_masks_by_threshold(study):
    ours = {"mask": {"method": "threshold"}}
    theirs = {"mask": {"method": "threshold", "model": "R231CovidWeb", "weights": "absent.pth"}}
    assert texts(study, ours) == texts(study, theirs)


def test_only_the_numbers_of_the_chosen_rule_decide_the_edges(study):
    of_rule = {"topology": set(), "distance": {"rho_mm"}, "overlap": {"min_overlap"}}
    for rule, numbers in of_rule.items():
        before = texts(study, {"graph": {"edges": rule}})["register"]
        for change in ({"rho_mm": 40.0}, {"min_overlap": 0.5}):
            after = texts(study, {"graph": {"edges": rule} | change})["register"]
            assert (before != after) == bool(numbers & change.keys())


FILE = {"source": "file", "mask": "m.nii"}
SCAN = {"source": "scan", "scans": ["a"]}
TEMPLATE = {"source": "template", "scans": ["b", "a"]}


def stages(folder, choice, overlay=None, rows=ROWS) -> dict[str, str]:
    files = ("mask", "ct", "landmarks")
    choice = {k: str(folder / v) if k in files and v else v for k, v in choice.items()}
    return texts(folder, {"atlas": choice} | (overlay or {}), rows)


def atlas(folder, choice, overlay=None, rows=ROWS) -> str:
    return stages(folder, choice, overlay, rows)["atlas"]


LISTED = FILE | {
    "ct": "ct.nii",
    "landmarks": "b.nii",
    "landmark_points": "centres",
    "min_lung_fraction": None,
}


@pytest.mark.parametrize("key", ["mask", "landmarks"])
def test_mask_and_landmarks_count_by_what_is_in_them(study, key):
    """A fresh clone has other times, and reruns nothing."""
    before = stages(study, LISTED)
    os.utime(study / LISTED[key], ns=(5, 5))
    assert stages(study, LISTED) == before
    (study / LISTED[key]).write_text("x" * len(LISTED[key]))  # as long as it was
    after = stages(study, LISTED)
    assert {name for name in before if before[name] != after[name]} == {"atlas"} | PREPARED


def test_the_ct_of_an_atlas_is_pictured_and_touches_no_model(study):
    before = stages(study, LISTED)
    os.utime(study / LISTED["ct"], ns=(5, 5))
    after = stages(study, LISTED)
    assert {name for name in before if before[name] != after[name]} == {"atlas"}
    assert stages(study, LISTED | {"ct": None})["pretrain"] == before["pretrain"]


def test_files_of_an_atlas_that_moved_touch_no_model(study):
    before = stages(study, LISTED)
    (study / "m.nii").rename(study / "moved.nii")
    assert stages(study, LISTED | {"mask": "moved.nii"})["pretrain"] == before["pretrain"]


def test_a_detached_header_counts_with_its_values(study):
    for name in ("lungs.mhd", "lungs.raw"):
        (study / name).write_text(name)
    before = atlas(study, FILE | {"mask": "lungs.mhd"})
    (study / "lungs.raw").write_text("other")
    assert atlas(study, FILE | {"mask": "lungs.mhd"}) != before


@pytest.mark.parametrize("choice", [SCAN, TEMPLATE], ids=lambda c: c["source"])
@pytest.mark.parametrize("what", ["image", "mask"])
def test_a_missing_image_of_the_atlas_stops_at_once(study, choice, what):
    rows = [ROWS[0] | {"mask": "m.nii"}, ROWS[1]]
    path = study / rows[0][what]
    path.unlink()
    with pytest.raises(ConfigError, match=rf"names a, whose {what} {path} does not exist") as fault:
        atlas(study, choice, rows=rows)
    assert "scans.csv" in fault.value.advice


def test_a_missing_file_of_the_atlas_stops_at_once(study):
    with pytest.raises(ConfigError, match=r"atlas\.mask is .*none\.nii, which does not exist") as fault:
        atlas(study, FILE | {"mask": "none.nii"})
    assert "working directory" in fault.value.advice


@pytest.mark.parametrize("choice", [SCAN, TEMPLATE], ids=lambda c: c["source"])
def test_an_atlas_of_scans_depends_on_their_images_and_on_how_they_are_read(study, choice):
    before = atlas(study, choice)
    for overlay in ({"volume": {"hu_min": -1000}}, {"mask": {"method": "threshold"}}):
        assert atlas(study, choice, overlay) != before
    assert atlas(study, choice, rows=[ROWS[0] | {"mask": "m.nii"}, ROWS[1]]) != before
    assert atlas(study, choice, rows=[ROWS[0] | {"fev1": "70", "subject": "p9"}, ROWS[1]]) == before
    by_registration = atlas(study, choice, {"registration": {"seed": 2}})
    assert (by_registration != before) == (choice is TEMPLATE)
    os.utime(study / "a.nii", ns=(5, 5))
    assert atlas(study, choice) != before


def test_an_atlas_of_one_scan_does_not_depend_on_the_others(study):
    before = atlas(study, SCAN)
    os.utime(study / "b.nii", ns=(5, 5))
    assert atlas(study, SCAN) == before
    assert atlas(study, TEMPLATE) != atlas(study, TEMPLATE | {"scans": ["a", "b"]})


def test_a_scan_that_is_not_in_the_manifest_is_named(study):
    with pytest.raises(ConfigError, match=r"atlas\.scans names 'c', which is not in"):
        atlas(study, SCAN | {"scans": ["c"]})


def test_a_scan_that_is_left_out_makes_no_atlas(study):
    rows = [ROWS[0] | {"exclude": "yes", "exclude_reason": "moved"}, ROWS[1]]
    with pytest.raises(ConfigError, match="names a, which the manifest excludes: moved"):
        atlas(study, TEMPLATE, rows=rows)


def test_weights_of_lungmask_are_seen_by_their_stamp(study):
    weights = study / "weights.pth"
    weights.write_text("one")
    overlay = {"mask": {"weights": str(weights)}}
    before = texts(study, overlay)["volume"]
    os.utime(weights, ns=(5, 5))
    assert texts(study, overlay)["volume"] != before


def test_a_new_row_touches_no_scan_and_no_pretraining(study):
    new = {"scan": "c", "subject": "p3", "image": "c.nii", "fev1": "50", "gold": "2", "site": "x", "note": ""}
    labelled = PROBES | {"cohort", "splits_by", "figures"} | CONFOUNDED
    assert changed(study, rows=[*ROWS, new]) == labelled | LABELLED
    assert changed(study, rows=[*ROWS, new | {"fev1": "NA"}]) == labelled, "no network is trained for it"


def test_a_replaced_image_is_seen_and_its_absence_too(study):
    before = texts(study)["volume"]
    os.utime(study / "a.nii", ns=(5, 5))
    touched = texts(study)["volume"]
    (study / "a.nii").unlink()
    missing = texts(study)["volume"]
    assert len({before, touched, missing}) == 3
    assert json.loads(missing)["image_stamp"] == "missing"


def test_a_replaced_mask_is_seen(study):
    rows = [ROWS[0] | {"mask": "m.nii"}, ROWS[1]]
    before = texts(study, rows=rows)["volume"]
    os.utime(study / "m.nii", ns=(5, 5))
    assert texts(study, rows=rows)["volume"] != before


def test_the_image_of_a_scan_left_out_is_not_looked_at(study):
    rows = [ROWS[0] | {"exclude": "yes", "mask": "m.nii"}, ROWS[1]]
    before = texts(study, rows=rows)["volume"]
    (study / "a.nii").unlink()
    (study / "m.nii").unlink()
    assert texts(study, rows=rows)["volume"] == before


@pytest.mark.parametrize("stage", RECIPES)
def test_a_raised_recipe_changes_its_stage(study, stage, monkeypatch):
    before = texts(study)
    monkeypatch.setitem(RECIPES, stage, RECIPES[stage] + 1)
    after = texts(study)
    expected = {stage} | (PREPARED if stage in settings.PREPARATION else set())
    assert {name for name in before if before[name] != after[name]} == expected


def test_settings_of_another_recipe_or_stage_are_refused(study, monkeypatch):
    text = texts(study)["store"]
    with pytest.raises(ConfigError, match="'store' recipe"):
        settings.parse("atlas", text)
    monkeypatch.setitem(RECIPES, "store", RECIPES["store"] + 1)
    with pytest.raises(ConfigError, match=rf"recipe {RECIPES['store'] - 1}, this is .* {RECIPES['store']}"):
        settings.parse("store", text)


def test_the_settings_of_a_large_cohort_fit_a_command(study):
    """Linux takes 128 KiB in one argument; reasons of a thousand kept scans are more."""
    rows = [ROWS[0] | {"scan": f"s{n}", "keep": "yes", "keep_reason": "x" * 1000} for n in range(1000)]
    rows[0]["scan"] = "a"
    assert len(texts(study, rows=rows)["cohort"]) < 10_000


@pytest.mark.parametrize("key", ["mask", "ct", "landmarks"])
def test_a_pipe_among_the_files_of_an_atlas_is_not_waited_for(study, key):
    os.mkfifo(study / "pipe")
    atlas = {"source": "file", "mask": str(study / "m.nii")} | {key: str(study / "pipe")}
    if key == "landmarks":
        atlas |= {"landmark_points": "centres", "min_lung_fraction": None}
    with pytest.raises(ConfigError, match=rf"atlas\.{key} is .*pipe, which is no file"):
        texts(study, {"atlas": atlas})
