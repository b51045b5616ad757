"""The folder to share: complete, of one piece, and without names."""

import gzip
import json
import shutil

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from privacy.planted import found
from share import models

import ctssl
from ctssl.cli import cli
from ctssl.errors import ConfigError, StoreError, WeightsError
from ctssl.prepare import atlas as atlases
from ctssl.prepare.images import read_array
from ctssl.share.export import Sharing, export_model

NAMES = ("quirinius77", "zwetschgenbaum", "studyofmine")


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    models.save(folder / "runs/small/seed0/all", data_licence="CC-BY-NC-4.0")
    about = {"source": "template", "scans": list(NAMES[:2]), "files": {"mask": NAMES[2]}}
    models.save_atlas(folder / "atlas", **about)
    return folder


def model_of(results):
    return ctssl.load_model(results / "runs/small/seed0/all")


def front_and_body(folder):
    _, front, body = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_folder_is_complete_without_the_study(results, tmp_path):
    patches, places = np.full((2, 32, 32, 32), -700), [[0.5, 0.5, 0.5], [0, 1, 0]]
    before = model_of(results).embed_patches(patches, places)
    said = export_model(model_of(results), tmp_path / "out", Sharing())
    assert said.endswith("model.json, README.md, atlas/")
    shutil.rmtree(results)
    shutil.move(tmp_path / "out", tmp_path / "moved")
    model = ctssl.load_model(tmp_path / "moved")
    np.testing.assert_array_equal(model.embed_patches(patches, places), before)
    assert model.needed_atlas() == tmp_path / "moved/atlas"
    names = {str(p.relative_to(tmp_path / "moved")) for p in (tmp_path / "moved").rglob("*") if p.is_file()}
    assert names == {"model.safetensors", "model.json", "README.md", "atlas/atlas.json", "atlas/mask.nii.gz"}


def test_the_atlas_is_the_same_and_its_ct_and_lobes_stay_at_home(results, tmp_path):
    export_model(model_of(results), tmp_path / "out", Sharing())
    ours, theirs = (atlases.read_atlas(folder / "atlas") for folder in (results, tmp_path / "out"))
    assert ours.id == theirs.id
    np.testing.assert_array_equal(ours.landmarks_mm, theirs.landmarks_mm)
    (mask, grid), (copy, place) = (read_array(f / "atlas/mask.nii.gz") for f in (results, tmp_path / "out"))
    np.testing.assert_array_equal(mask, copy)
    assert grid == place


def test_no_name_of_a_scan_is_in_any_byte(results, tmp_path):
    assert found(results, NAMES), "the search works"
    export_model(model_of(results), tmp_path / "out", Sharing())
    assert found(tmp_path / "out", (*NAMES, str(tmp_path))) == []
    header = gzip.decompress((tmp_path / "out/atlas/mask.nii.gz").read_bytes())[:352]
    assert not any(header[148:344].strip(b"\0 ").startswith(name.encode()) for name in NAMES)


def test_the_page_says_what_a_stranger_must_know(results, tmp_path):
    export_model(model_of(results), tmp_path / "out", Sharing(licence="Apache-2.0"))
    front, body = front_and_body(tmp_path / "out")
    assert front["license"] == "apache-2.0"
    assert {"medical", "chest-ct", "self-supervised"} <= set(front["tags"])
    for words in (
        *("Not for clinical use", "-1024 to 240 HU", "| spacing | 1.0 mm |", "| axes | LPS", "6 landmarks"),
        *("| lung mask | threshold |", "SyN at 10.0 mm", "40 of 38 subjects", "| 2.25 (0.5 to 11) |"),
        *("licence of the data | CC-BY-NC-4.0", "the mean of several scans", "ctssl embed", "ctssl.embed("),
    ):
        assert words in body, words
    card = json.loads((tmp_path / "out/model.json").read_text())
    assert card["data_licence"] == "CC-BY-NC-4.0"
    assert card["use"] == "research; not for clinical use"
    assert (card["axes"], card["window_hu"], card["spacing_mm"]) == ("LPS", [-1024, 240], 1.0)


@pytest.mark.parametrize(
    ("method", "seen"),
    [
        ("moco-v2", "| volume | the lungs on 128 x 128 x 128 voxels"),
        ("models-genesis", "| windows | over the lungs, 32 x 64 x 64 voxels"),
    ],
)
def test_the_page_of_a_method_of_whole_lungs_tells_of_no_patches(results, tmp_path, method, seen):
    models.save(results / "runs/small/seed0/all", method)
    export_model(model_of(results), tmp_path / "out", Sharing())
    _, body = front_and_body(tmp_path / "out")
    assert seen in body
    assert "takes the box of the lungs" in body
    assert "patches" not in body
    assert "landmarks," not in body


def test_the_page_of_random_weights_says_that_nothing_was_learnt(results, tmp_path):
    models.save(results / "runs/small/seed0/all", "untrained")
    export_model(model_of(results), tmp_path / "out", Sharing())
    assert "Nothing was learnt" in front_and_body(tmp_path / "out")[1]


def test_what_nobody_stated_is_not_stated(results, tmp_path):
    models.save(results / "runs/small/seed0/all")
    export_model(model_of(results), tmp_path / "out", Sharing())
    front, body = front_and_body(tmp_path / "out")
    assert front["license"] == "unknown"
    assert "| licence of the data | not stated |" in body
    assert "| licence of the weights | not stated |" in body


def test_the_name_of_the_cohort_is_told_as_text(results, tmp_path):
    models.save(results / "runs/small/seed0/all", cohort_name="COPD | <b>Gene</b>")
    export_model(model_of(results), tmp_path / "out", Sharing())
    assert "\n| cohort | COPD \\| &lt;b&gt;Gene&lt;/b&gt; |\n" in front_and_body(tmp_path / "out")[1]
    models.save(results / "runs/small/seed0/all", cohort_name="")
    export_model(model_of(results), tmp_path / "none", Sharing())
    assert "| cohort |" not in front_and_body(tmp_path / "none")[1]


EVIL = 'mine"\n---\nlicense: mit\n---\n<script>x</script> | [a](b) `c`'


def test_a_licence_is_text_whatever_it_holds(results, tmp_path):
    export_model(model_of(results), tmp_path / "out", Sharing(licence=EVIL, data_licence=EVIL))
    text = (tmp_path / "out/README.md").read_text()
    front, body = front_and_body(tmp_path / "out")
    assert (front["license"], front["license_name"]) == ("other", " ".join(EVIL.split()))
    assert "<script>" not in body
    assert "\nlicense: mit" not in text
    assert r"\|" in text


def test_a_cohort_can_be_named_after_the_training(results, tmp_path):
    run, card = results / "runs/small/seed0/all", {}
    for out, args in (("as-is", []), ("named", ["--cohort-name", " COPDGene\nphase 1"])):
        done = CliRunner().invoke(cli, ["export", str(run), "--out", str(tmp_path / out), *args])
        assert done.exit_code == 0, done.output
        card[out] = json.loads((tmp_path / out / "model.json").read_text())
    assert card["named"] == card["as-is"] | {"cohort_name": "COPDGene phase 1"}
    assert "| cohort | COPDGene phase 1 |" in (tmp_path / "named/README.md").read_text()
    assert "| cohort |" not in (tmp_path / "as-is/README.md").read_text()


def with_ct(results, kind):
    known = models.preparation()
    known["registering"]["registration"] = models.REGISTRATION | {"ct_weight": 0.5}
    models.save(results / "runs/small/seed0/all", preparation=known)
    models.save_atlas(results / "atlas", source=kind)


@pytest.mark.parametrize("kind", ["scan", "template", "file"])
def test_a_persons_ct_goes_only_when_asked_for(results, tmp_path, kind):
    with_ct(results, kind)
    with pytest.raises(ConfigError, match="CT of its atlas, which is a person's") as fault:
        export_model(model_of(results), tmp_path / "out", Sharing())
    assert "--with-ct" in fault.value.advice
    assert list(tmp_path.iterdir()) == [results], "nothing half-made is left"
    export_model(model_of(results), tmp_path / "out", Sharing(with_ct=True))
    assert (tmp_path / "out/atlas/ct.nii.gz").exists()


def test_the_phantoms_ct_goes_where_the_registration_needs_it(results, tmp_path):
    with_ct(results, "builtin")
    export_model(model_of(results), tmp_path / "out", Sharing())
    assert (tmp_path / "out/atlas/ct.nii.gz").exists()


def test_weights_that_know_no_preparation_are_shared_all_the_same(results, tmp_path):
    models.save(results / "runs/small/seed0/all", preparation=None, cohort={})
    shutil.rmtree(results / "atlas")
    models.save_atlas(results / "atlas", images=False)
    export_model(model_of(results), tmp_path / "out", Sharing())
    _, body = front_and_body(tmp_path / "out")
    assert "| preparation | not known to this card" in body
    assert ctssl.load_model(tmp_path / "out").atlas.id == "synthetic"


def test_weights_without_any_atlas_are_shared_without_one(tmp_path):
    models.save(tmp_path / "in", atlas=None, landmarks=0, preparation=None)
    said = export_model(ctssl.load_model(tmp_path / "in"), tmp_path / "out", Sharing())
    assert said.endswith("model.json, README.md")
    assert "none of its own, name one" in front_and_body(tmp_path / "out")[1]


def test_an_atlas_without_its_mask_makes_no_folder(results, tmp_path):
    (results / "atlas/mask.nii.gz").unlink()
    with pytest.raises(StoreError, match=r"has no mask\.nii\.gz, which registration needs"):
        export_model(model_of(results), tmp_path / "out", Sharing())
    assert not (tmp_path / "out").exists()


def test_imported_weights_say_where_they_come_from_and_what_else_is_needed(tmp_path):
    made = [{"file": "net|<b>.pth", "sha256": "abc"}]
    path = models.save(tmp_path / "in", atlas=None, landmarks=0, axes=None, preparation=None, imported=made)
    export_model(ctssl.load_model(path), tmp_path / "out", Sharing())
    _, body = front_and_body(tmp_path / "out")
    assert r"| published as | net\|&lt;b&gt;.pth, sha256 abc |" in body
    assert "imported with ctssl" in body
    assert "--model model.safetensors --config CONFIG.yaml --atlas ATLAS --out" in body
    assert 'load_model("model.safetensors", atlas="ATLAS")' in body
    assert 'model, config="CONFIG.yaml")' in body
    assert "| axes" not in body


def test_an_atlas_that_weights_were_given_goes_with_them_and_is_found(tmp_path, results):
    path = models.save(tmp_path / "in", atlas=None, landmarks=0, preparation=None, axes=None)
    given = ctssl.load_model(path, atlas=results / "atlas")
    export_model(given, tmp_path / "out", Sharing())
    assert "| axes | LPS" in front_and_body(tmp_path / "out")[1]
    assert ctssl.load_model(tmp_path / "out").needed_atlas() == tmp_path / "out/atlas"
    assert "--atlas" not in (tmp_path / "out/README.md").read_text()


def test_a_card_of_an_older_version_is_enough(results, tmp_path):
    """It has no edge of patches, no axes, no quartiles."""
    run = results / "runs/small/seed0/all"
    card = json.loads((run / "model.json").read_text())
    for key in ("patch_voxels", "axes", "cohort", "preparation", "data_licence"):
        del card[key]
    (run / "model.json").write_text(json.dumps(card))
    export_model(model_of(results), tmp_path / "out", Sharing())
    assert "6 landmarks, 32 voxels along an edge" in (tmp_path / "out/README.md").read_text()


@pytest.mark.parametrize("change", [{"window_hu": None}, {"cohort": {"a": [1]}}, {"imported": [3]}])
def test_a_card_that_says_too_little_is_refused_in_words(results, tmp_path, change):
    models.save(results / "runs/small/seed0/all", **change)
    with pytest.raises(WeightsError, match="lacks what a stranger must know"):
        export_model(model_of(results), tmp_path / "out", Sharing())
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_never_written_over(results, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("full", "file"):
        with pytest.raises(ConfigError, match="is there already"):
            export_model(model_of(results), tmp_path / name, Sharing())
    assert (tmp_path / "full/mine.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    export_model(model_of(results), tmp_path / "empty", Sharing())
    assert (tmp_path / "empty/README.md").exists()


def test_the_command(results, tmp_path):
    run, out = results / "runs/small/seed0/all", tmp_path / "deep/er/out"
    done = CliRunner().invoke(cli, ["export", str(run), "--out", str(out), "--data-licence", "CC0-1.0"])
    assert done.exit_code == 0, done.output
    assert f"{out}: model.safetensors (" in done.output
    assert "CC0-1.0" in (out / "README.md").read_text()
