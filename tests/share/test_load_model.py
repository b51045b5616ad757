"""Loading a model: where its atlas is looked for, what is refused, and that `import ctssl` stays light."""

import shutil
import subprocess
import sys

import pytest
import torch
from share import models
from train import synthetic

import ctssl
from ctssl.errors import ConfigError, StoreError, WeightsError


@pytest.fixture
def results(tmp_path):
    """A results folder as the workflow leaves it."""
    folder = tmp_path / "results"
    models.save(folder / "runs/small/seed0/all")
    models.save_atlas(folder / "atlas")
    return folder


def test_the_atlas_is_found_in_the_results_above_the_weights(results):
    model = ctssl.load_model(results / "runs/small/seed0/all/model.safetensors")
    assert model.atlas_folder.resolve() == (results / "atlas").resolve()
    assert model.atlas.id == model.card["atlas"] == "synthetic"
    assert model.patch_voxels == 32


def test_the_atlas_beside_the_weights_comes_first_and_another_id_is_none(results):
    run = results / "runs/small/seed0/all"
    other = synthetic.atlas(7)
    object.__setattr__(other, "id", "other")
    models.save_atlas(run / "atlas", other)
    assert ctssl.load_model(run / "model.safetensors").atlas_folder == results / "atlas"
    shutil.rmtree(run / "atlas")
    models.save_atlas(run / "atlas")
    assert ctssl.load_model(run).atlas_folder == run / "atlas", "a folder will do, too"


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"id": ["synthetic"]}'])
def test_a_strange_folder_named_atlas_is_passed_by(results, text):
    run = results / "runs/small/seed0/all"
    (run / "atlas").mkdir()
    (run / "atlas/atlas.json").write_text(text)
    assert ctssl.load_model(run).atlas_folder == results / "atlas"


def test_a_link_to_weights_finds_the_atlas_where_they_lie(results, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    for name in ("model.safetensors", "model.json"):
        (tmp_path / "elsewhere" / name).symlink_to(results / "runs/small/seed0/all" / name)
    found = ctssl.load_model(tmp_path / "elsewhere/model.safetensors").atlas_folder
    assert found.resolve() == (results / "atlas").resolve()


def test_without_its_atlas_a_model_says_where_to_get_it(tmp_path):
    model = ctssl.load_model(models.save(tmp_path))
    with pytest.raises(StoreError, match=r"the atlas synthetic of .* is neither .* beside it nor") as fault:
        model.needed_atlas()
    assert "ctssl export" in fault.value.advice
    assert "--atlas" in fault.value.advice
    with pytest.raises(StoreError):
        ctssl.embed("scan.nii.gz", model)


def test_a_model_of_no_atlas_asks_for_one_of_its_spacing(tmp_path, results):
    path = models.save(tmp_path, atlas=None, landmarks=0)
    with pytest.raises(StoreError, match=r"no atlas of its own") as fault:
        ctssl.load_model(path).needed_atlas()
    assert "an atlas of 1.0 mm" in fault.value.advice
    assert ctssl.load_model(path, atlas=results / "atlas").needed_atlas() == results / "atlas"


def test_weights_of_no_atlas_take_the_one_beside_them_and_none_above(tmp_path, results):
    """So an exported folder is complete, and an atlas that is there by chance is not taken."""
    path = models.save(results / "weights", atlas=None, landmarks=0)
    assert ctssl.load_model(path).atlas_folder is None
    models.save_atlas(results / "weights/atlas", synthetic.atlas())
    assert ctssl.load_model(path).atlas_folder == results / "weights/atlas"
    models.save(results / "weights", atlas=None, landmarks=0, spacing_mm=2.5)
    assert ctssl.load_model(path).atlas_folder is None, "of another spacing"


def test_imported_weights_say_which_atlas_they_lack(tmp_path):
    path = models.save(tmp_path, imported=[{"file": "a.pth", "sha256": "abc"}])
    with pytest.raises(StoreError, match="was imported, without its atlas synthetic") as fault:
        ctssl.load_model(path).needed_atlas()
    assert "config/copdgene-atlas.yaml" in fault.value.advice


def test_a_path_that_is_not_there_is_told_as_such(tmp_path):
    with pytest.raises(WeightsError, match="there is no such file") as fault:
        ctssl.load_model(tmp_path / "modle.safetensors")
    assert "name a .safetensors file" in fault.value.advice


def test_a_named_atlas_of_another_id_is_refused(results, tmp_path):
    other = synthetic.atlas(7)
    models.save_atlas(tmp_path / "other", other, images=False)
    with pytest.raises(WeightsError, match="landmarks 6, but this atlas has 7"):
        ctssl.load_model(results / "runs/small/seed0/all", atlas=tmp_path / "other")
    with pytest.raises(StoreError, match="holds no atlas"):
        ctssl.load_model(results / "runs/small/seed0/all", atlas=tmp_path)


@pytest.mark.parametrize("path", ["", "model.json", "nothing/model.safetensors"])
def test_what_holds_no_weights_is_refused_with_its_path(tmp_path, path):
    models.save_atlas(tmp_path)
    with pytest.raises(WeightsError, match=r"cannot be read|does not fit|sha256"):
        ctssl.load_model(tmp_path / path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error(results):
    with pytest.raises(ConfigError, match="no GPU"):
        ctssl.load_model(results / "runs/small/seed0/all", device="cuda")
    assert ctssl.load_model(results / "runs/small/seed0/all", device="auto").device.type == "cpu"


def test_importing_the_package_brings_nothing_heavy_and_no_submodule_is_hidden():
    code = (
        "import sys, ctssl; print(*(name for name in sys.modules if name.startswith('ctssl')));"
        "assert {'embed', 'load_model'} <= set(dir(ctssl)); from ctssl import settings, preparation;"
        "assert not {'torch', 'numpy', 'pandas', 'tensorstore'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ctssl"]


def test_what_the_package_does_not_have_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'predict_all'"):
        ctssl.predict_all  # noqa: B018
