"""Where a registration starts: an affine map of the atlas's lungs to the scan's, from one of several guesses.

A guess is improved by damped least squares (Levenberg and Marquardt) on coarse smooth lungs, +1 right and -1
left. What the scan did not see is not compared, so a lung that the field of view cuts is not squeezed.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ctssl.prepare.grid import Grid
from ctssl.prepare.lungs import FACES, Lungs, coarse, signed
from ctssl.prepare.transforms import Affine

_LEVELS = ((12.0, 12.0), (8.0, 4.0))  # spacing and smoothing, mm
_STEPS = 25  # at each level, at most
_STILL_MM = 0.1  # a step that moves points less ends a level
_PAD_MM = 24.0
_TURNS_DEG = (-30, -15, 15, 30)
_BLUR = 2.0  # times the smoothing: so near to what was not seen, the coarse image is not the lungs
_TRUST, _TRUST_SIZE = 0.02, 0.3  # of a cut scan's guess: in general, in the size across the cut


def guesses(scan: Lungs, atlas: Lungs, cut: Sequence[str]) -> Iterator[tuple[str, Affine]]:
    """The ladder of first guesses, each with its name.

    spread: centre and spread along each axis. centre: centre and one scale for all axes. Then turns about
    the centre, named by axis and degrees: x-30 is a turn by -30 degrees about x.
    """
    first = by_spread(scan, atlas, cut)
    yield "spread", first
    ours, theirs = _points(scan), _points(atlas)
    scale = float(np.linalg.det(first.matrix)) ** (1 / 3)
    shown = theirs[scan.sees(first(theirs), cut)]
    middle = (shown if len(shown) else theirs).mean(0)
    for name, turn in [("centre", np.eye(3)), *_turns()]:
        matrix = scale * turn
        yield name, Affine(matrix, ours.mean(0) - matrix @ middle)


def _turns() -> Iterator[tuple[str, np.ndarray]]:
    for axis in "xyz":
        for degrees in _TURNS_DEG:
            yield f"{axis}{degrees:+d}", Rotation.from_euler(axis, degrees, degrees=True).as_matrix()


def by_spread(scan: Lungs, atlas: Lungs, cut: Sequence[str]) -> Affine:
    """Scales and shift from centre and spread of the lungs.

    Across a cut, size cannot be seen: it is that along the other axes, and the end that is seen decides the
    place. Of the atlas only what the scan shows at that size is compared.
    """
    ours, theirs = _points(scan), _points(atlas)
    ends = [(low in cut, high in cut) for low, high in zip(FACES[::2], FACES[1::2], strict=True)]
    whole = np.array([not any(end) for end in ends])
    guess = Affine(np.eye(3), ours.mean(0) - theirs.mean(0))
    for _ in range(20 if not whole.all() else 1):
        shown = theirs[scan.sees(guess(theirs), cut)]
        if len(shown) < 0.05 * len(theirs):
            break
        scale = ours.std(0) / shown.std(0)
        scale[~whole] = scale[whole].prod() ** (1 / whole.sum()) if whole.any() else 1.0
        shift = ours.mean(0) - scale * shown.mean(0)
        for axis, (low, high) in enumerate(ends):
            if low != high:
                end = np.max if low else np.min
                shift[axis] = end(ours[:, axis]) - scale[axis] * end(theirs[:, axis])
        guess = Affine(np.diag(scale), shift)
    return guess


def _points(lungs: Lungs) -> np.ndarray:
    """(P, 3) x, y, z of lung about 4 mm apart."""
    step = max(1, round(4 / lungs.grid.spacing_mm))
    positions = np.argwhere(lungs.mask[::step, ::step, ::step] > 0) * step
    return lungs.grid.to_points(positions.astype(float))


def _all_points(grid: Grid) -> np.ndarray:
    """(P, 3) x, y, z of all voxels."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1).reshape(-1, 3)
    return grid.to_points(index.astype(float))


class Fit:
    """Affine fits of one scan to one atlas: coarse images are made once for all guesses."""

    def __init__(self, scan: Lungs, atlas: Lungs, cut: Sequence[str]) -> None:
        self._trust = _trust(cut)
        self._levels = []
        for spacing, sigma in _LEVELS:
            fixed, moving = (
                coarse(signed(lungs.mask), lungs.grid, spacing, pad_mm=_PAD_MM, sigma_mm=sigma)
                for lungs in (atlas, scan)
            )
            self._levels.append((fixed, _Image(*moving, scan, cut, _BLUR * sigma)))

    def __call__(self, guess: Affine) -> Affine:
        """The guess, improved."""
        found = guess
        for (values, grid), moving in self._levels:
            found = self._descend(_all_points(grid), values.ravel(), moving, found, guess)
        return found

    def dice(self, affine: Affine) -> float:
        """The worse lung's overlap of coarse lungs, of those that the atlas here has."""
        (values, grid), moving = self._levels[-1]
        there = affine(_all_points(grid))
        known = moving.knows(there)
        ours, theirs = moving.at(there)[0][known], values.ravel()[known]
        out = []
        for sign in (1, -1):
            one, two = sign * ours > 0.5, sign * theirs > 0.5
            total = np.count_nonzero(one) + np.count_nonzero(two)
            out += [2 * np.count_nonzero(one & two) / total] if total else []
        return float(min(out, default=0.0))

    def _descend(
        self, points: np.ndarray, values: np.ndarray, moving: "_Image", found: Affine, guess: Affine
    ) -> Affine:
        """The affine that makes moving(affine(points)) most like values, near `found`."""
        middle, reach = points.mean(0), points.std()
        arms = np.c_[(points - middle) / reach, np.ones(len(points))]  # (P, 4)
        damping, cost = 1e-3, np.inf
        state = np.c_[found.matrix * reach, found(middle[None])[0]]  # (3, 4), mm
        prior = np.c_[guess.matrix * reach, guess(middle[None])[0]]
        best, system, trust = state, None, self._trust
        for _ in range(_STEPS):
            there = arms @ state.T
            known = moving.knows(there)
            value, slope = moving.at(there)
            miss = np.where(known, values - value, 0)
            off = ((state - prior).ravel() ** 2 * trust).sum() / reach**2
            new = float((miss**2).sum() / max(known.sum(), 1) + off)
            if new < cost:
                best, cost, damping = state, new, damping / 5
                if not known.any():
                    break  # the scan saw nothing of where the atlas lies now
                rows = (slope[:, :, None] * arms[:, None, :]).reshape(len(points), 12)[known]
                scale = 1 / len(rows)
                normal = rows.T @ rows * scale + np.diag(trust) / reach**2
                right = rows.T @ miss[known] * scale - trust / reach**2 * (state - prior).ravel()
                system = normal, right
            else:
                damping *= 10
            if system is None or damping > 1e3:
                break
            normal, right = system
            # flat where nothing tells a direction: then no step along it
            step = np.linalg.lstsq(normal + damping * np.diag(np.diag(normal)), right)[0].reshape(3, 4)
            state = best + step
            if np.abs(step).max() < _STILL_MM:
                break
        matrix = best[:, :3] / reach
        return Affine(matrix, best[:, 3] - matrix @ middle)


def _trust(cut: Sequence[str]) -> np.ndarray:
    """(12,) weights of the guess beside what is seen, of matrix and shift, row by row.

    Nothing seen tells the size across a cut from how the near part is bent.
    """
    weights = np.zeros((3, 4))
    if cut:
        weights[:, :3] = _TRUST
    for axis, faces in enumerate(zip(FACES[::2], FACES[1::2], strict=True)):
        if set(faces) & set(cut):
            weights[axis, axis] = _TRUST_SIZE
    return weights.ravel()


class _Image:
    """A scan's coarse image and its slopes along x, y, z per mm, looked up linearly; 0 outside."""

    def __init__(
        self, values: np.ndarray, grid: Grid, scan: Lungs, cut: Sequence[str], blur_mm: float
    ) -> None:
        self._grid, self._scan, self._cut, self._blur_mm = grid, scan, cut, blur_mm
        seen = scan.sees(_all_points(grid), cut).reshape(grid.shape)
        self._depth_mm = None if seen.all() else ndimage.distance_transform_edt(seen) * grid.spacing_mm
        slopes = np.stack(np.gradient(values, grid.spacing_mm), 0)[::-1]  # along i, j, k
        along = np.einsum("xd,d...->x...", grid.direction.astype(np.float32), slopes)
        self._stack = [values, *along]

    def knows(self, points_mm: np.ndarray) -> np.ndarray:
        """(P,) bool: what was seen decides alone about the image at points (P, 3)."""
        known = self._scan.sees(points_mm, self._cut)
        if self._depth_mm is not None:
            where = self._grid.to_array(points_mm).T
            known &= ndimage.map_coordinates(self._depth_mm, where, order=1, cval=np.inf) > self._blur_mm
        return known

    def at(self, points_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(P,) values and (P, 3) slopes at points (P, 3)."""
        where = self._grid.to_array(points_mm).T
        value, *slope = (ndimage.map_coordinates(part, where, order=1, cval=0) for part in self._stack)
        return value, np.stack(slope, -1)
