import pytest
from PIL import Image
from prepare.chest import scan

from ctssl.cohorts.phantom.cohort import write_nifti
from ctssl.cohorts.phantom.pictures import compare


@pytest.mark.slow
def test_a_scan_is_drawn_beside_phantoms(tmp_path):
    made = scan(1, 0, 3.0)
    write_nifti(tmp_path / "other_image.nii.gz", made.hu, made)
    compare(tmp_path / "other_image.nii.gz", tmp_path / "pictures")
    for name in ("planes.png", "histogram.png"):
        picture = Image.open(tmp_path / "pictures" / name).convert("L")
        assert picture.getextrema()[1] > 200
        assert len(picture.getcolors(256) or []) > 50
