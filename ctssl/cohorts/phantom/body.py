"""What lies around the lungs: wall, bones, heart, great vessels, belly, in canonical x, y, z (LPS mm)."""

from itertools import pairwise

import numpy as np
from scipy.interpolate import PchipInterpolator

from ctssl.cohorts.phantom import lungs
from ctssl.cohorts.phantom.canvas import Box, Canvas, Margin

HU = {
    **{"air": -1000.0, "fat": -100.0, "muscle": 50.0, "blood": 42.0, "heart": 45.0, "liver": 58.0},
    **{"spleen": 50.0, "stomach": 25.0, "disc": 80.0, "cartilage": 95.0, "cord": 30.0},
}

_HEIGHTS = [-170.0, -60, 0, 60, 100, 130, 165]
_HALF_WIDTH = PchipInterpolator(_HEIGHTS, [150, 153, 153, 160, 168, 172, 150])
_FRONT = PchipInterpolator(_HEIGHTS, [-104, -108, -107, -94, -72, -52, -28])
_BACK = PchipInterpolator(_HEIGHTS, [114, 122, 126, 125, 118, 108, 92])


def outline(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Margin of the body without skin and the fat under it; meaningful outside the canonical box too."""
    height = np.clip(z, _HEIGHTS[0], _HEIGHTS[-1])
    half, front, back = (f(height).astype(np.float32) for f in (_HALF_WIDTH, _FRONT, _BACK))
    depth, middle = (back - front) / 2, (front + back) / 2
    groove = 5 * np.exp(-((x / 14) ** 2)) * (y > 0)  # between the muscles of the back
    across, along = np.abs(x) / half, np.abs(y - middle) / (depth - groove)
    return (1 - (across**2.4 + along**2.4) ** (1 / 2.4)) * np.minimum(half, depth)


def breasts(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Share (0 to 1) of a breast's thickness that lies over a point of the skin."""
    bump = np.exp(-(((np.abs(x) - 78) / 42) ** 2) - ((z + 22) / 44) ** 2)
    return np.where(y < 0, bump, 0.0)


def paint(canvas: Canvas) -> None:
    """Nothing; paints everything but lungs, airways and the vessels inside the lungs."""
    canvas.hu[...] = HU["fat"]
    canvas.blend(outline, HU["muscle"])
    canvas.blend(lungs.cage, HU["fat"])
    _belly(canvas)
    _great_vessels(canvas)
    _bones(canvas)


def _belly(canvas: Canvas) -> None:
    def below(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return np.minimum(-lungs.diaphragm(x, y, z) - 2, lungs.cage(x, y, z) - 1)

    def muscle(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        depth = -lungs.diaphragm(x, y, z)
        return np.minimum(np.minimum(depth + 1, 3 - depth), lungs.cage(x, y, z))

    canvas.blend(muscle, HU["muscle"], ((-140, -100, -170), (140, 100, -55)))
    organs = (
        ("liver", _ellipsoid((-58, -4, -118), (92, 92, 66))),
        ("liver", _ellipsoid((14, -46, -112), (62, 40, 34))),
        ("spleen", _ellipsoid((96, 44, -126), (34, 42, 42))),
        ("stomach", _ellipsoid((64, -14, -126), (50, 48, 38))),
    )
    for name, shape in organs:
        canvas.blend(_both(shape, below), HU[name], ((-140, -100, -170), (140, 100, -50)))
    gas = _both(_ellipsoid((66, -34, -118), (30, 22, 22)), lambda x, y, z: -26 - y)  # rises to the front
    canvas.blend(gas, HU["air"], ((30, -60, -145), (100, -20, -90)))


def _great_vessels(canvas: Canvas) -> None:
    vessels = (
        ([(6, -18, -20), (-10, -30, 18), (-14, -30, 46), (-4, -16, 66), (12, 12, 72), (21, 40, 62)], 14.0),
        ([(21, 40, 62), (24, 52, 36), (22, 54, -40), (12, 52, -120), (4, 50, -170)], 12.0),  # aorta
        ([(-22, -16, 120), (-26, -16, 60), (-26, -14, -10)], 9.0),  # superior vena cava
        ([(-24, 6, -60), (-22, 8, -170)], 11.0),  # inferior vena cava
        ([(16, -40, -10), (20, -28, 20), (22, -6, 30), (34, 12, 28)], 12.5),  # pulmonary trunk, left artery
        ([(20, -12, 26), (-4, 0, 24), (-36, 8, 18)], 10.5),  # right pulmonary artery
        ([(-34, 14, 2), (-8, 20, -10), (8, 22, -14), (34, 18, 4)], 9.0),  # pulmonary veins, left atrium
        ([(-8, -22, 74), (-16, -10, 120), (-22, -4, 165)], 6.0),
        ([(10, -4, 76), (16, 6, 120), (22, 8, 165)], 5.0),
        ([(-40, -22, 128), (-22, -16, 116)], 7.0),
        ([(50, -26, 128), (10, -34, 104), (-22, -20, 96)], 7.0),
        ([(5, 34, 165), (6, 34, 40), (10, 36, -40), (18, 22, -100)], 7.0),  # oesophagus
    )
    box = ((-60, -95, -110), (105, 40, 45))
    canvas.blend(lambda x, y, z: lungs.heart(x, y, z) - 3, HU["heart"], box)
    canvas.blend(_atria, HU["heart"], box)
    for points, radius in vessels:
        for start, end in pairwise(points):
            canvas.blend(*tube(start, end, radius, HU["blood"]))
    canvas.blend(*tube((4, -8, 80), (0, -10, 165), 16, HU["muscle"]))  # thyroid and neck


def _atria(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Margin of what joins the heart to the great vessels and borders the right lung."""
    near = np.minimum(lungs.heart(x, y, z) + 34, lungs.mediastinum(x, y, z) - 3)
    return np.minimum(np.minimum(near, y + 62), np.minimum(26 - y, 34 - z - 0.35 * np.abs(x)))


def _bones(canvas: Canvas) -> None:
    for side in (-1, 1):
        for number in range(1, 13):
            path, cartilage = _rib(number, side)
            _draw_path(canvas, path, ((6.2, 430.0), (4.0, 200.0)), flat=2.6)
            _draw_path(canvas, cartilage, ((5.5, HU["cartilage"]),))
        _shoulder(canvas, side)
    _spine(canvas)
    canvas.blend(_sternum, 260.0, ((-32, -110, -70), (32, -20, 108)))
    canvas.blend(lambda x, y, z: _sternum(x, y, z) - 2.2, 130.0, ((-32, -110, -70), (32, -20, 108)))


def _rib(number: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """(K, 3) points from the spine to the front, and those of the cartilage to the breastbone."""
    head_z = 124.0 - 21.5 * (number - 1)
    drop = float(np.interp(number, [1, 2, 4, 8, 12], [34, 48, 66, 80, 60]))
    end = float(np.interp(number, [1, 7, 8, 10, 11, 12], [158, 152, 146, 124, 92, 62]))
    angle = np.deg2rad(np.linspace(16, end, 28))
    z = head_z - drop * np.sin(angle / 2) ** 1.6
    half, front, back = lungs.cage_wall(z)
    middle, depth = (front + back) / 2, (back - front) / 2
    x = (half + 7.5) * np.sin(angle) ** 0.82
    y = middle + (depth + 7.5) * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** 0.86
    path = np.stack([side * x, y, z], 1)
    neck = np.array([[side * 21.0, float(lungs.spine_back(np.array(head_z))) + 12, head_z]])
    joint_z = 92.0 - 23 * (min(number, 7) - 1)
    joint = np.array([[side * 17.0, float(lungs.cage_wall(np.array(joint_z))[1]) - 8, joint_z]])
    cartilage = np.concatenate([path[-1:], joint]) if number <= 8 else path[-1:]
    return np.concatenate([neck, path]), cartilage


def _shoulder(canvas: Canvas, side: int) -> None:
    top, tip, socket = np.array([[72.0, 108, 122], [98, 116, -8], [148, 62, 128]]) * [side, 1, 1]
    for share in np.linspace(0, 1, 22):  # the blade: a fan of thin rods
        _draw_path(canvas, np.array([tip, top + share * (socket - top)]), ((2.4, 330.0),))
    _draw_path(canvas, np.array([top, socket + np.array([0, 8, 12])]), ((5.0, 380.0), (3.0, 200.0)))
    _draw_path(
        canvas, np.array([socket, socket + np.array([side * 10, -6, 4])]), ((11.0, 330.0), (9.0, 200.0))
    )
    collar = np.array([[16.0, -46, 112], [60, -52, 124], [110, -14, 140], [150, 30, 146]]) * [side, 1, 1]
    _draw_path(canvas, collar, ((6.0, 480.0), (3.6, 180.0)))


def _spine(canvas: Canvas) -> None:
    box = ((-45, 30, -170), (45, 132, 165))

    def body(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        waist = 1 - 0.07 * np.cos(2 * np.pi * z / 24) ** 2
        return (1 - np.hypot(x / 19, (y - lungs.spine_back(z)) / 16) / waist) * 17

    def disc(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return np.minimum(body(x, y, z), 2.6 - np.abs((z + 12) % 24 - 12))

    def ring(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        around = np.hypot(x, y - lungs.spine_back(z) - 25)
        return np.minimum(14 - around, 8.5 - np.abs(z % 24 - 12))

    def canal(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return 8.5 - np.hypot(x, y - lungs.spine_back(z) - 24)

    canvas.blend(body, 380.0, box)
    canvas.blend(lambda x, y, z: body(x, y, z) - 2, 175.0, box)
    canvas.blend(disc, HU["disc"], box)
    canvas.blend(ring, 350.0, box)
    for level in range(-156, 150, 24):
        y = float(lungs.spine_back(np.array(level)))
        _draw_path(canvas, np.array([[0, y + 36, level], [0, y + 56, level - 16.0]]), ((3.6, 330.0),))
        for side in (-1, 1):
            _draw_path(
                canvas,
                np.array([[side * 10, y + 26, level], [side * 33, y + 34, level + 2.0]]),
                ((4.6, 300.0),),
            )
    canvas.blend(canal, HU["cord"], box)


def _sternum(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    _, front, _ = lungs.cage_wall(z)
    half = 15 + 12 * np.clip((z - 62) / 18, 0, 1)
    along = np.minimum(104 - z, z + 66)
    return np.minimum(np.minimum(half - np.abs(x), 5.6 - np.abs(y - front + 8.5)), along)


def _draw_path(
    canvas: Canvas, points: np.ndarray, layers: tuple[tuple[float, float], ...], flat: float = 0.0
) -> None:
    """Paints a rod along points: layers of (radius, HU) from the outside in; `flat` makes it taller in z."""
    for radius, hu in layers:
        for start, end in pairwise(points):
            for rise in (-flat, flat) if flat else (0.0,):
                lift = np.array([0.0, 0.0, rise])
                canvas.blend(*tube(start + lift, end + lift, radius, hu))


def tube(
    start: tuple[float, ...] | np.ndarray, end: tuple[float, ...] | np.ndarray, radius: float, hu: float
) -> tuple[Margin, float, Box]:
    """Margin, HU and box of a straight tube with round ends."""
    first, last = np.asarray(start, np.float32), np.asarray(end, np.float32)
    axis = last - first
    square = float(axis @ axis)

    def margin(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        dx, dy, dz = x - first[0], y - first[1], z - first[2]
        along = np.clip((dx * axis[0] + dy * axis[1] + dz * axis[2]) / square, 0, 1)
        return radius - np.sqrt(
            (dx - along * axis[0]) ** 2 + (dy - along * axis[1]) ** 2 + (dz - along * axis[2]) ** 2
        )

    return margin, hu, (np.minimum(first, last) - radius, np.maximum(first, last) + radius)


def _ellipsoid(centre: tuple[float, ...], radii: tuple[float, ...]) -> Margin:
    def margin(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        moved = ((v - c) / r for v, c, r in zip((x, y, z), centre, radii, strict=True))
        return (1 - np.sqrt(sum(m**2 for m in moved))) * min(radii)

    return margin


def _both(first: Margin, second: Margin) -> Margin:
    return lambda x, y, z: np.minimum(first(x, y, z), second(x, y, z))
