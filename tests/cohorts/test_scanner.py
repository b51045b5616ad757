"""The scanner against what physics and a real scan say."""

from dataclasses import replace

import numpy as np
import pytest

from ctssl.cohorts.phantom.kernel import add_noise, blur
from ctssl.cohorts.phantom.scanner import (
    SITES,
    Scanner,
    acquire,
    add_table,
    average_slices,
    field_of_view,
    finish,
    planes_mm,
    scan_axes,
    scanner_of,
    subslices,
)
from ctssl.errors import ConfigError

LOW, HIGH = np.array([-180.0, -120.0, -150.0]), np.array([170.0, 130.0, 130.0])
BARE = Scanner(table=False)


def rng(seed=0):
    return np.random.default_rng(seed)


def flat_scan(scanner, value=0.0, shape=(24, 150, 150), seed=0):
    axes = tuple(np.arange(n) * 1.0 for n in shape[::-1])
    planes = np.full((shape[0] * subslices(scanner), *shape[1:]), value, np.float32)
    return acquire(planes, axes, scanner, 1e3, rng(seed)).astype(float)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("spacing_mm", 0.0),
        ("slice_mm", 30.0),
        ("noise_hu", -1.0),
        ("noise_hu", float("nan")),
        ("kernel", "B30f"),
        ("fov_mm", 5.0),
        ("padding_hu", 0),
        ("site", "Z"),
        ("hard", ("gremlins",)),
    ],
)
def test_what_no_scanner_has_is_refused(name, value):
    with pytest.raises(ConfigError, match=r"gremlins" if name == "hard" else name):
        Scanner(**{name: value})


def test_a_site_keeps_the_grid_and_the_hard_cases():
    base = Scanner(1.5, 5.0, 20.0, fov_mm=300.0, hard=("motion",))
    made = [scanner_of(site, base) for site in SITES]
    kept = [(s.spacing_mm, s.slice_mm, s.fov_mm, s.hard) for s in made]
    assert set(kept) == {(1.5, 5.0, 300.0, ("motion",))}
    assert [s.site for s in made] == list(SITES)
    assert len({(s.kernel, s.noise_hu, s.circle, s.padding_hu, s.table) for s in made}) == len(SITES)
    with pytest.raises(ConfigError, match="A"):
        scanner_of("Z", base)


@pytest.mark.parametrize("kernel", ["soft", "sharp"])
@pytest.mark.parametrize(("slice_mm", "expected"), [(0.75, 36.0), (3.0, 18.0), (6.0, 12.73)])
def test_noise_has_the_stated_deviation(kernel, slice_mm, expected):
    noise = flat_scan(replace(BARE, kernel=kernel, slice_mm=slice_mm))
    assert noise.std() == pytest.approx(expected, rel=0.05)
    assert abs(noise.mean()) < 0.5


def test_a_low_dose_is_four_times_as_noisy():
    assert flat_scan(replace(BARE, hard=("low-dose",))).std() == pytest.approx(72.0, rel=0.05)


def test_the_centre_is_noisier_than_the_rim():
    noise = flat_scan(replace(BARE, slice_mm=1.0), shape=(60, 120, 120))
    rim = noise[:, 50:70, [0, 1, 2, -3, -2, -1]].std()
    assert noise[:, 55:65, 55:65].std() / rim == pytest.approx(1.3 / 0.8, rel=0.08)


def correlations(kernel, spacing_mm):
    noise = add_noise(np.zeros((20, 160, 160), np.float32), kernel, spacing_mm, 18.0, rng())
    pairs = [(noise[..., :-d] * noise[..., d:]).mean() / noise.var() for d in (1, 2, 3)]
    assert abs(np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]) < 0.01  # slices are independent
    return pairs


def test_neighbours_agree_as_in_a_real_scan():
    """Measured in the flattest soft tissue of the public scan lung2 (0.627 mm), means of x and y."""
    assert correlations("soft", 0.627) == pytest.approx([0.62, 0.10, -0.05], abs=0.08)


@pytest.mark.parametrize("spacing_mm", [0.7, 1.0, 2.0])
def test_soft_noise_is_coarser_than_sharp_noise(spacing_mm):
    assert correlations("soft", spacing_mm)[0] > correlations("sharp", spacing_mm)[0] + 0.15


@pytest.mark.parametrize(("kernel", "frequency", "gain"), [("soft", 0.31, 0.5), ("sharp", 0.85, 0.5)])
def test_a_pattern_of_lines_keeps_half_its_contrast(kernel, frequency, gain):
    x_mm = np.arange(400) * 0.1
    lines = np.broadcast_to(100 * np.sin(2 * np.pi * frequency * x_mm), (1, 3, 400)).astype(np.float32)
    seen = blur(lines, kernel, 0.1)[0, 1, 100:-100]
    assert np.abs(seen).max() / 100 == pytest.approx(gain, abs=0.03)


@pytest.mark.parametrize("spacing_mm", [0.7, 2.0])
def test_only_the_sharp_kernel_overshoots_at_an_edge(spacing_mm):
    edge = np.zeros((1, 3, 60), np.float32)
    edge[..., 30:] = 1000
    soft, sharp = (blur(edge, kernel, spacing_mm)[0, 1] for kernel in ("soft", "sharp"))
    assert soft.min() > -0.01
    assert soft.max() < 1000.01
    assert 10 < soft[29] < 490  # and it does blur
    assert sharp.max() > 1040
    assert sharp.min() < -40


@pytest.mark.parametrize("kernel", ["soft", "sharp"])
def test_kernels_preserve_mass(kernel):
    flat = np.full((2, 20, 20), -870, np.float32)
    np.testing.assert_allclose(blur(flat, kernel, 1.0), flat, rtol=1e-5)
    point = np.zeros((1, 41, 41), np.float32)
    point[0, 20, 20] = 1000
    seen = blur(point, kernel, 0.8)
    assert seen.sum() == pytest.approx(1000, rel=1e-4)
    np.testing.assert_allclose(seen[0], seen[0].T, atol=1e-3)


def test_thick_slices_average_what_lies_within_them():
    scanner = replace(BARE, slice_mm=6.0, noise_hu=0.0)
    x, y, z = scan_axes(LOW, HIGH, scanner)
    planes = planes_mm(z, scanner)
    assert len(planes) == 3 * len(z)
    np.testing.assert_allclose(np.diff(planes), 2.0)
    scene = np.broadcast_to(planes[:, None, None], (len(planes), 4, 4)).astype(np.float32)
    np.testing.assert_allclose(average_slices(scene, 3)[:, 0, 0], z, atol=1e-4)  # the mean of a slope
    sheet = np.where(np.abs(planes - z[10]) < 1, 300.0, 0.0)[:, None, None] * np.ones((1, 4, 4))
    seen = acquire(sheet.astype(np.float32), (x[:4], y[:4], z), scanner, 1e3, rng())[:, 2, 2]
    assert seen[10] == 100  # 2 mm of 300 HU in a slice of 6 mm
    assert not np.delete(seen, 10).any()


@pytest.mark.parametrize("slice_mm", [0.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0])
def test_one_plane_of_a_slice_is_at_its_centre(slice_mm):
    scanner = replace(BARE, slice_mm=slice_mm)
    z = scan_axes(LOW, HIGH, scanner)[2]
    count, planes = subslices(scanner), planes_mm(z, scanner)
    np.testing.assert_allclose(planes[count // 2 :: count], z, atol=1e-9)
    assert slice_mm / count <= 2
    assert (count == 1) == (slice_mm <= 2)


def test_planes_that_cannot_be_dealt_out_are_refused():
    with pytest.raises(ValueError, match="3 planes, but there are 7"):
        average_slices(np.zeros((7, 2, 2), np.float32), 3)


def test_the_grid_covers_the_body():
    scanner = Scanner(2.5, 4.0)
    axes = scan_axes(*field_of_view(LOW, HIGH, scanner), scanner)
    for axis, step, low, high in zip(axes, (2.5, 2.5, 4.0), LOW, HIGH, strict=True):
        np.testing.assert_allclose(np.diff(axis), step)
        assert axis[0] - step / 2 <= low
        assert axis[-1] + step / 2 > high - step
    assert axes[1][-1] > HIGH[1] + 40  # room for the table


def test_a_field_of_view_is_a_square_about_the_body():
    scanner = Scanner(2.0, 4.0, fov_mm=260.0)
    x, y, _ = scan_axes(*field_of_view(LOW, HIGH, scanner), scanner)
    assert len(x) == len(y) == 130
    assert x.mean() == pytest.approx(-5.0)  # the middle of the body
    assert y.mean() == pytest.approx(5.0)
    assert x[0] > LOW[0] + 40  # the sides are cut


def table_scene(shift_mm=0.0):
    x, y, z = np.arange(-240.0, 240.1, 2), np.arange(-130.0, 190.1, 2), np.arange(3.0)
    body = (np.abs(x / 180) ** 2 + np.abs(y[:, None] / 125) ** 2 < 1)[None].repeat(3, 0)
    return np.where(body, 40, -1000).astype(np.float32), (x + shift_mm, y, z), body


def test_the_table_lies_beneath_the_back_and_nowhere_else():
    scene, axes, body = table_scene()
    seen = add_table(scene, axes, 125.0)
    x, y, _ = axes
    np.testing.assert_array_equal(seen[body], scene[body])
    table = seen[1] > -990
    table &= ~body[1]
    assert not table[y < 90].any()
    assert not table[:, np.abs(x) > 214].any()
    np.testing.assert_array_equal(table, table[:, ::-1])
    middle = seen[1][:, len(x) // 2]
    under = y[(middle > -990) & (y > 125)]
    assert under[0] == pytest.approx(130, abs=2)  # a thin gap
    assert 35 < under[-1] - under[0] < 50
    assert middle[y > 125].max() == pytest.approx(150)  # shell
    assert -900 <= middle[np.argmin(abs(y - 150))] <= -700  # foam
    rise = np.array([y[column.argmax()] for column in table[:, ::20].T if column.any()])
    assert rise.argmax() == len(rise) // 2  # hollow: its rims are higher than its middle


def test_the_table_stands_still_when_the_field_of_view_moves():
    scene, axes, _ = table_scene(shift_mm=30.0)
    table = add_table(np.full_like(scene, -1000), axes, 125.0)[1] > -990
    columns = axes[0][table.any(0)]
    assert columns.mean() == pytest.approx(0, abs=2)


@pytest.mark.parametrize("padding_hu", [-1024, -2000, -3024])
def test_outside_the_circle_is_padding(padding_hu):
    axes = (np.arange(200.0) - 30, np.arange(200.0) + 7, np.arange(2.0))
    scene = np.full((2, 200, 200), -400, np.float32)
    seen = finish(scene, axes, Scanner(1.0, circle=True, padding_hu=padding_hu))
    outside = seen == padding_hu
    assert set(np.unique(seen)) == {padding_hu, -400}
    assert outside.mean() == pytest.approx(1 - np.pi / 4, abs=0.01)
    assert outside[:, [0, 0, -1, -1], [0, -1, 0, -1]].all()
    assert not outside[:, 100].any()
    assert (finish(scene, axes, Scanner(1.0)) == -400).all()


def test_a_wide_body_is_not_cut_by_its_circle():
    scene, axes, body = table_scene()
    seen = finish(scene, axes, Scanner(2.0, circle=True))
    assert (seen[body] == 40).all()
    assert (seen == -2000).any()


def test_values_are_whole_and_within_twelve_bits():
    scene = np.array([[[-5000, -0.6, 1.4, 9000]]], np.float32)
    seen = finish(scene, (np.arange(4.0), np.arange(1.0), np.arange(1.0)), Scanner())
    assert seen.dtype == np.int16
    assert seen.ravel().tolist() == [-1024, -1, 1, 3071]


def test_a_scan_is_the_same_for_the_same_seed():
    scanner = replace(BARE, kernel="sharp", hard=("motion", "metal"))
    first, again, other = (flat_scan(scanner, shape=(6, 40, 40), seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5
