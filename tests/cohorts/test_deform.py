import json
from dataclasses import replace

import numpy as np
import pytest

from ctssl.cohorts.phantom import lungs
from ctssl.cohorts.phantom.deform import Deformation
from ctssl.cohorts.phantom.subject import draw_subject

PEOPLE = range(8)


def person(number: int) -> Deformation:
    return draw_subject(11, number).deformation


def chest_points(step_mm: float) -> np.ndarray:
    axes = [np.arange(low, high, step_mm) for low, high in zip(lungs.LOW_MM, lungs.HIGH_MM, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


@pytest.mark.parametrize("number", PEOPLE)
def test_the_inverse_is_exact(number):
    points = chest_points(35.0)
    there = person(number)(points)
    assert np.linalg.norm(there - points, axis=1).max() > 10
    assert np.abs(person(number).inverse(there) - points).max() < 1e-6


@pytest.mark.parametrize("number", PEOPLE)
def test_nothing_folds(number):
    """The Jacobian determinant, by central differences, stays well above 0."""
    points, h, body = chest_points(20.0), 1e-3, person(number)
    columns = [(body(points + h * unit) - body(points - h * unit)) / (2 * h) for unit in np.eye(3)]
    determinants = np.linalg.det(np.stack(columns, -1))
    assert determinants.min() > 0.25
    assert determinants.std() > 0.01  # and it is no affine map


def draw(seed: int = 0, **changed) -> Deformation:
    body = {"sex": "M", "age": 60.0, "height_cm": 175.0, "bmi": 26.0, "inflation": 0.0}
    return Deformation.draw(np.random.default_rng(seed), **{**body, **changed})


def size(body: Deformation) -> np.ndarray:
    """(3,) lengths of the columns of the matrix: scales along x, y, z."""
    return np.linalg.norm(body.matrix, axis=0)


def test_sizes_stay_within_15_percent_and_local_shifts_near_20_mm():
    points = chest_points(20.0)
    points = points[lungs.lung_margin(*points.T) > 0]
    bodies = [person(n) for n in range(60)]
    sizes = np.array([size(body) for body in bodies])
    assert sizes.min() >= 0.85 - 1e-9
    assert sizes.max() <= 1.15 + 1e-9
    assert np.ptp(sizes, axis=0).min() > 0.12
    local = [
        np.linalg.norm((body(points) - body.shift_mm) @ np.linalg.inv(body.matrix).T - points, axis=1).max()
        for body in bodies
    ]
    assert 17 < max(local) < 24
    assert np.percentile(local, 95) < 21


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_point_that_is_no_number_has_no_inverse(value):
    with pytest.raises(ValueError, match="finite"):
        draw().inverse(np.array([[0.0, 0, 0], [1.0, value, 3.0]]))


def test_an_inverse_that_does_not_come_to_rest_says_how_far_it_was():
    with pytest.raises(ValueError, match=r"200 steps, but the last step is \d"):
        draw().inverse(chest_points(80.0), tolerance_mm=0.0)
    folded = replace(draw(), amplitudes_mm=20 * draw().amplitudes_mm)
    with pytest.raises(ValueError, match="fold"):
        folded.inverse(chest_points(80.0))


def test_no_points_have_no_inverse():
    assert draw().inverse(np.empty((0, 3))).shape == (0, 3)


def test_sex_height_and_age_show_in_the_size():
    assert (size(draw(height_cm=185)) > size(draw(height_cm=165))).all()
    assert (size(draw(sex="M")) > size(draw(sex="F"))).all()
    assert size(draw(age=80))[1] > size(draw(age=45))[1]
    assert size(draw(age=80))[0] == pytest.approx(size(draw(age=45))[0])


def test_inflation_lowers_the_base_and_leaves_the_apex():
    base, apex = np.array([[-70.0, 0, -100]]), np.array([[-50.0, 20, 130]])
    calm, full = draw(), draw().inflated(1.0)
    assert calm(base)[0, 2] - full(base)[0, 2] > 10
    assert abs(calm(apex)[0, 2] - full(apex)[0, 2]) < 0.1


def test_a_turned_body_is_the_body_turned():
    points, body = chest_points(60.0), draw(3)
    turned = body.turned(np.array([0.0, 0.0, 90.0]))(points)
    x, y, z = body(points).T
    np.testing.assert_allclose(turned, np.stack([-y, x, z], 1), atol=1e-9)


def test_a_deformation_survives_json():
    again = Deformation.from_json(json.loads(json.dumps(person(3).to_json())))
    points = chest_points(60.0)
    np.testing.assert_array_equal(again(points), person(3)(points))


def test_identity_is_the_canonical_chest():
    points = chest_points(50.0)
    np.testing.assert_array_equal(Deformation.identity()(points), points)
    np.testing.assert_allclose(Deformation.identity().inverse(points), points)
