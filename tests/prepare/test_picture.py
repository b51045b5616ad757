"""Pictures of ellipsoids: what is drawn where, by looking at the pixels."""

import numpy as np
import pytest
from chest import AXES, turned
from PIL import Image

from ctssl.prepare.grid import Grid
from ctssl.prepare.picture import Views, caption, draw_exclusion, draw_scan
from ctssl.prepare.planes import Upright, box, centre, plane

GRID = Grid((-120.0, -70.0, -90.0), 4.0, (60, 36, 46), "LPS")


def chest() -> tuple[np.ndarray, np.ndarray]:
    """hu and mask (z, y, x): a large right lung, a small left one, a bright block right, front, top."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in GRID.shape), indexing="ij")
    mask = np.zeros(GRID.shape, np.uint8)
    mask[((x - 16) / 11) ** 2 + ((y - 18) / 13) ** 2 + ((z - 23) / 19) ** 2 < 1] = 1
    mask[((x - 44) / 7) ** 2 + ((y - 18) / 11) ** 2 + ((z - 23) / 12) ** 2 < 1] = 2
    hu = np.where(mask > 0, -850, -100).astype(np.int16)
    hu[40:, :8, :6] = 1000
    return hu, mask


def views(**changes) -> Views:
    hu, mask = chest()
    points = GRID.to_points(np.array([[23.0, 18.0, 16.0], [23.0, 18.0, 44.0]]))
    usual = {"hu": hu, "mask": mask, "grid": GRID, "landmarks_mm": points, "valid": np.array([True, False])}
    usual |= {"near_mm": 16.0, "atlas_hu": None, "atlas_mask": mask, "warped_hu": hu, "warped_mask": mask}
    return Views(**(usual | {"atlas_grid": GRID} | changes))


def drawn(tmp_path, made: Views) -> np.ndarray:
    draw_scan(tmp_path / "one.png", made, ("anna", "Dice", ""))
    return np.asarray(Image.open(tmp_path / "one.png")).astype(int)


def share(pixels: np.ndarray, colour: tuple[int, int, int], tolerance: int = 2) -> float:
    return float((np.abs(pixels - colour).max(-1) <= tolerance).mean())


@pytest.mark.parametrize("axes", AXES)
def test_every_order_of_axes_is_turned_upright(axes):
    hu, mask = chest()
    upright, grid = Upright(turned(hu, GRID, axes)[1]), turned(hu, GRID, axes)[1]
    shown = upright.array(turned(hu, GRID, axes)[0])
    np.testing.assert_array_equal(shown, hu[::-1])  # an LPS array but for the head, which is up
    place = GRID.to_points(np.array([[40.0, 3.0, 2.0]]))
    np.testing.assert_allclose(upright.positions(place), [[5.0, 3.0, 2.0]], atol=1e-9)
    assert grid.axes == axes
    found = centre(upright.array(turned(mask, GRID, axes)[0]), (1,))
    np.testing.assert_allclose(found, [22, 18, 16], atol=1)


def test_centre_and_box_of_nothing():
    empty = np.zeros((6, 5, 4), np.uint8)
    assert centre(empty, (1, 2)) is None
    assert box(empty, 2) == [slice(0, 6), slice(0, 5), slice(0, 4)]
    empty[2, 3, 3] = 2
    assert box(empty, 1) == [slice(1, 4), slice(2, 5), slice(2, 4)]
    assert plane(empty, "sagittal", 3).shape == (6, 5)


def test_the_picture_is_the_same_for_all_orders_of_axes(tmp_path):
    hu, mask = chest()
    expected = drawn(tmp_path, views())
    for axes in ("RAI", "SLP", "ILA"):
        (here, grid), (lungs, _) = turned(hu, GRID, axes), turned(mask, GRID, axes)
        same = {"hu": here, "mask": lungs, "grid": grid, "atlas_mask": lungs, "warped_hu": here}
        np.testing.assert_array_equal(
            drawn(tmp_path, views(**same, warped_mask=lungs, atlas_grid=grid)), expected
        )


def test_the_right_lung_is_on_the_left_and_the_head_is_up(tmp_path):
    pixels = drawn(tmp_path, views(hu=chest()[0] + 0))
    coronal = pixels[68:428, : round(360 * 60 / 46)]
    red, blue = (np.abs(coronal - c).max(-1) <= 2 for c in ((255, 90, 80), (90, 160, 255)))
    assert red.any()
    assert blue.any()
    assert np.flatnonzero(red.any(0)).max() < np.flatnonzero(blue.any(0)).min()
    axial = pixels[68:428, coronal.shape[1] + 6 :][:, : 360 * 60 // 36]
    assert np.flatnonzero((np.abs(axial - (255, 90, 80)).max(-1) <= 2).any(0)).max() < axial.shape[1] // 2
    hu = np.where(chest()[1] > 0, -850, -100).astype(np.int16)
    hu[40:] = 1000  # the head's end
    rows = drawn(tmp_path, views(hu=hu))[68:428, 200:440].mean((1, 2))
    assert rows[:40].mean() > 240 > rows[-40:].mean()


def test_valid_landmarks_are_discs_and_others_rings_at_their_place(tmp_path):
    pixels = drawn(tmp_path, views())[68:428, : round(360 * 60 / 46)]
    zoom = 360 / 46
    y = round((46 - 1 - 23 + 0.5) * zoom)  # z 23 from the feet
    assert tuple(pixels[y, round(16.5 * zoom)]) == (90, 230, 110)
    middle = pixels[y, round(44.5 * zoom)]
    assert np.ptp(middle) == 0, "a ring is empty"
    assert share(pixels[y - 8 : y + 8, round(44.5 * zoom) - 8 : round(44.5 * zoom) + 8], (255, 170, 0)) > 0.1


def lower(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Checkerboards and differences."""
    below = pixels[68 + 360 + 22 :]
    return np.split(below, [below.shape[1] // 2], axis=1)


def test_the_checkerboard_shows_scan_and_atlas_by_turns(tmp_path):
    flat = np.full(GRID.shape, 250, np.int16)  # the top of the window
    board, _ = lower(drawn(tmp_path, views(warped_hu=flat, atlas_hu=np.full(GRID.shape, -1150, np.int16))))
    assert 0.3 < share(board, (255, 255, 255)) < 0.55
    board, _ = lower(drawn(tmp_path, views(warped_hu=flat, atlas_hu=flat)))
    assert 0.3 < share(board, (255, 255, 255)) < 0.55, "an atlas square is bluish"


def test_without_a_ct_the_atlas_is_its_mask(tmp_path):
    flat = np.full(GRID.shape, 250, np.int16)
    board, _ = lower(drawn(tmp_path, views(warped_hu=flat)))
    greys = {tuple(c) for c in board.reshape(-1, 3)}
    lung, around = (tuple(int(g * (0.45 + 0.55 * c / 255)) for c in (86, 180, 233)) for g in (70, 170))
    assert {lung, around, (255, 255, 255)} <= greys


def test_the_difference_has_a_colour_for_each_case(tmp_path):
    mask = chest()[1]
    both, scan, atlas, other = (130, 130, 130), (230, 120, 0), (86, 180, 233), (240, 228, 66)
    _, same = lower(drawn(tmp_path, views()))
    assert share(same, both) > 0.2
    assert share(same, scan) == share(same, other) == 0
    _, lost = lower(drawn(tmp_path, views(warped_mask=np.where(mask == 1, mask, 0))))
    assert share(lost, atlas) > 0.02
    assert share(lost, scan) == 0
    _, more = lower(drawn(tmp_path, views(atlas_mask=np.where(mask == 1, mask, 0))))
    assert share(more, scan) > 0.02
    _, swapped = lower(drawn(tmp_path, views(warped_mask=np.where(mask > 0, 3 - mask, 0))))
    assert share(swapped, other) > 0.2
    assert share(swapped, both) < 0.01


@pytest.mark.parametrize("left_out", [1, 2])
def test_a_scan_of_one_lung_has_a_picture(tmp_path, left_out):
    mask = np.where(chest()[1] == left_out, 0, chest()[1])
    pixels = drawn(tmp_path, views(mask=mask, warped_mask=mask))
    assert share(pixels, (255, 90, 80) if left_out == 2 else (90, 160, 255)) > 0.001


def test_the_caption_says_what_is_known_and_no_more():
    numbers = {"dice_right": 0.98123, "dice_left": None, "missing": "left", "cut": "bottom", "rung": "turned"}
    numbers |= {"landmarks": 70, "valid": 31}
    numbers |= {"mask_doubts": ["it is small"], "repairs": ["2 slices were missing"]}
    assert caption("anna", numbers) == (
        "anna",
        "Dice right 0.981, 31 of 70 landmarks valid, start: turned",
        "left lung missing; cut: bottom; it is small; 2 slices were missing",
    )
    assert caption("anna", {}) == ("anna", "", "")


def test_a_line_that_is_too_long_is_shortened(tmp_path):
    draw_scan(tmp_path / "long.png", views(), ("anna", "Dice", "a sentence without an end " * 50))
    pixels = np.asarray(Image.open(tmp_path / "long.png")).astype(int)
    assert share(pixels[44:66, -8:], (16, 16, 16)) == 1.0


def test_an_exclusion_is_a_picture_too(tmp_path):
    draw_exclusion(tmp_path / "lost.png", "anna", "no lungs were found " * 30)
    assert np.asarray(Image.open(tmp_path / "lost.png")).shape == (160, 900, 3)
