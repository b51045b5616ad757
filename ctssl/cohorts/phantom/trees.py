"""The branching trees of the canonical lungs: airways, the arteries beside them, the veins between.

Each lobe is split by planes into ever smaller regions, and a branch grows toward the middle of each.
Points are x, y, z in LPS mm.

Source: the idea of filling a volume this way is Kitaoka et al. 1999 (J Appl Physiol 87:2207) and Tawhai
et al. 2000 (Ann Biomed Eng 28:793); this is own code and much simpler.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import cKDTree

CARINA_MM = (0.0, 16.0, 48.0)
RIGHT_HILUM_MM = (-38.0, 10.0, 18.0)
LEFT_HILUM_MM = (36.0, 14.0, 26.0)
_INTERMEDIATE_MM = (-45.0, 14.0, -4.0)  # where the intermediate bronchus parts into middle and lower lobe

# Pulmonary veins: from the left atrium, through the hilum, into lobes.
_VEINS = (
    ((-20.0, 25.0, -5.0), (-42.0, -4.0, 6.0), (1, 2)),
    ((-20.0, 25.0, -5.0), (-42.0, 26.0, -16.0), (3,)),
    ((20.0, 25.0, -5.0), (38.0, -4.0, 14.0), (4,)),
    ((20.0, 25.0, -5.0), (38.0, 28.0, -10.0), (5,)),
)
# Where the artery lies as it enters: right in front of the bronchus, left above it.
_ARTERY_SIDE = {RIGHT_HILUM_MM: (0.0, -1.0, 0.0), LEFT_HILUM_MM: (0.0, 0.0, 1.0)}

_RADIUS_MM = {"airway": 4.4, "artery": 4.8, "vein": 4.8}  # of the tube that serves one litre of lung
_EXPONENT = 1 / 2.8  # radius ~ served volume to this power
_THINNEST_MM = {"airway": 0.9, "artery": 0.6, "vein": 0.6}  # airways end there, vessels go on with it
_LAST_MM3 = 2800.0  # a region below this volume is not split
_REACH = 0.4  # how far a branch goes toward the middle of its region
_PIECE_MM = 7.0  # length of the straight pieces of a bent branch
_SHORTEST_MM = 2.0  # length of a branch
_NEAR_MM = 5.0  # a branch ends within its region: so near to one of its points
_COARSEST_MM = 6.0


@dataclass(frozen=True)
class Tree:
    """Straight tubes that hang together.

    Attributes:
        kind: airway, artery or vein.
        starts_mm: (S, 3), the end of the parent.
        ends_mm: (S, 3).
        radii_mm: (S,), of the lumen; never more than the parent's.
        parents: (S,) int, always smaller than the segment's own number; -1 at a root.
    """

    kind: str
    starts_mm: np.ndarray
    ends_mm: np.ndarray
    radii_mm: np.ndarray
    parents: np.ndarray

    @property
    def branch_points_mm(self) -> np.ndarray:
        """(B, 3) ends of the segments that have two children or more."""
        return self.ends_mm[self.branching]

    @property
    def branching(self) -> np.ndarray:
        """(S,) bool: the segment has two children or more."""
        count = np.bincount(self.parents[self.parents >= 0], minlength=len(self.parents))
        return np.asarray(count >= 2)


def wall_mm(radii_mm: np.ndarray) -> np.ndarray:
    """(S,) thickness of the airway wall around lumens of these radii (S,)."""
    return 0.2 * radii_mm + 0.4


def grow_trees(points_mm: np.ndarray, lobe: np.ndarray, seed: int = 0) -> dict[str, Tree]:
    """The trees by kind: airway, artery, vein; the same for the same arguments.

    Args:
        points_mm: (P, 3) all points of the lungs on a regular grid of about 4 mm.
        lobe: (P,) int, 1 to 5: right upper, middle, lower, left upper, lower.
        seed: of the jitter of cuts, lengths and radii.

    Raises:
        ValueError: a lobe has no points, or the points lie too far apart to fill regions with.
    """
    lobes = {number: points_mm[lobe == number] for number in range(1, 6)}
    missing = [number for number, part in lobes.items() if len(part) < 2]
    if missing:
        msg = f"each of the lobes 1 to 5 needs points, but {missing} have none: check `lobe`"
        raise ValueError(msg)
    apart = float(np.median(cKDTree(lobes[1]).query(lobes[1][::50], k=2)[0][:, 1]))
    if apart > _COARSEST_MM:
        msg = f"points lie {_COARSEST_MM:g} mm apart or less, but these {apart:.1f} mm: use a finer grid"
        raise ValueError(msg)
    bronchi = _grow_bronchi(_Growth(np.random.default_rng([seed, 1]), apart**3), lobes)
    veins = _grow_veins(_Growth(np.random.default_rng([seed, 2]), apart**3), lobes)
    return {
        "airway": _bend(bronchi.tree("airway", np.array(bronchi.ends_mm))),
        "artery": _bend(bronchi.tree("artery", _beside(bronchi))),
        "vein": _bend(veins.tree("vein", np.array(veins.ends_mm))),
    }


@dataclass
class _Growth:
    """Branches as they grow: where each starts and ends and how much lung it serves (mm3)."""

    rng: np.random.Generator
    point_mm3: float
    starts_mm: list[np.ndarray] = field(default_factory=list)
    ends_mm: list[np.ndarray] = field(default_factory=list)
    served_mm3: list[float] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)

    def root(self, start: tuple[float, ...], end: tuple[float, ...], points: int) -> int:
        """Number of a new branch without parent."""
        return self._append(-1, np.array(start), np.array(end), points)

    def branch(self, parent: int, end: np.ndarray, points: int) -> int:
        """Number of a new branch at the parent's end."""
        return self._append(parent, self.ends_mm[parent], end, points)

    def _append(self, parent: int, start: np.ndarray, end: np.ndarray, points: int) -> int:
        self.starts_mm.append(start)
        self.ends_mm.append(end)
        self.served_mm3.append(points * self.point_mm3)
        self.parents.append(parent)
        return len(self.parents) - 1

    def fill(self, parent: int, region: np.ndarray, quarter_turn: bool = False) -> None:
        """Nothing; grows branches from the parent's end into the region's points (R, 3)."""
        waiting = [(parent, region, quarter_turn)]
        while waiting:
            parent, region, turn = waiting.pop()
            start = self.ends_mm[parent]
            last = len(region) * self.point_mm3 < _LAST_MM3 or len(region) < 4
            reach = 0.9 if last else _REACH * self.rng.uniform(0.85, 1.15)
            end = _nearby(region, start, start + reach * (region.mean(0) - start))
            branch = self.branch(parent, end, len(region))
            if not last:
                for half in self._halves(region, end - start, turn):
                    waiting.append((branch, half, False))

    def _halves(self, region: np.ndarray, along: np.ndarray, turn: bool) -> tuple[np.ndarray, np.ndarray]:
        """Two parts of the region, cut about its middle where it is widest, rather across `along`."""
        offset = region - region.mean(0)
        along = _unit(along)
        offset = offset - 0.4 * np.outer(offset @ along, along)  # only a long region is cut into near and far
        axes = np.linalg.eigh(offset.T @ offset)[1]
        normal = axes[:, 1 if turn else 2]
        normal = normal * np.sign(normal[np.abs(normal).argmax()])  # the sign of an eigenvector is arbitrary
        normal = normal + self.rng.normal(0, 0.12, 3)
        count = round(len(region) * self.rng.uniform(0.36, 0.64))
        order = np.argpartition(offset @ normal, count)
        return region[order[:count]], region[order[count:]]

    def tree(self, kind: str, ends_mm: np.ndarray) -> Tree:
        """The branches as tubes of this kind with their ends at `ends_mm` (S, 3)."""
        parents = np.array(self.parents)
        jitter = self.rng.uniform(0.95, 1.05, len(parents))
        radii = jitter * _RADIUS_MM[kind] * (np.array(self.served_mm3) / 1e6) ** _EXPONENT
        for i, parent in enumerate(parents):
            radii[i] = radii[i] if parent < 0 else min(radii[i], radii[parent])
        starts = np.where(parents[:, None] < 0, np.array(self.starts_mm), ends_mm[parents])
        tree = Tree(kind, starts, ends_mm, np.maximum(radii, _THINNEST_MM[kind]), parents)
        if kind == "airway":
            return _keep(tree, radii >= _THINNEST_MM[kind])
        # The heart's side of the hilum belongs to the great vessels: there arteries begin.
        return _keep(tree, parents >= 0) if kind == "artery" else tree


def _grow_bronchi(growth: _Growth, lobes: dict[int, np.ndarray]) -> _Growth:
    count = {number: len(points) for number, points in lobes.items()}
    right = growth.root(CARINA_MM, RIGHT_HILUM_MM, count[1] + count[2] + count[3])
    left = growth.root(CARINA_MM, LEFT_HILUM_MM, count[4] + count[5])
    lower = growth.branch(right, np.array(_INTERMEDIATE_MM), count[2] + count[3])
    for parent, number in ((right, 1), (lower, 2), (lower, 3), (left, 4), (left, 5)):
        growth.fill(parent, lobes[number])
    return growth


def _grow_veins(growth: _Growth, lobes: dict[int, np.ndarray]) -> _Growth:
    for atrium, hilum, numbers in _VEINS:
        root = growth.root(atrium, hilum, sum(len(lobes[number]) for number in numbers))
        for number in numbers:
            growth.fill(root, lobes[number], quarter_turn=True)  # other planes than the bronchi's
    return growth


def _beside(bronchi: _Growth) -> np.ndarray:
    """(S, 3) ends of the arteries: next to the ends of the bronchi, off the plane of their branching."""
    ends = np.array(bronchi.ends_mm)
    along = ends - np.array(bronchi.starts_mm)
    children: list[list[int]] = [[] for _ in ends]
    for i, parent in enumerate(bronchi.parents):
        if parent >= 0:
            children[parent].append(i)
    litres = np.array(bronchi.served_mm3) / 1e6
    airway, artery = (_RADIUS_MM[kind] * litres**_EXPONENT for kind in ("airway", "artery"))
    gap = 1.1 * (airway + wall_mm(airway) + artery)
    side = np.zeros_like(ends)
    for i, parent in enumerate(bronchi.parents):
        if parent < 0:
            side[i] = _ARTERY_SIDE[tuple(ends[i])]
            continue
        before = side[parent]
        two = len(children[i]) == 2
        across = before - along[i] * (before @ along[i]) / (along[i] @ along[i])
        normal = np.cross(*along[children[i]]) if two else across
        side[i] = _unit(normal) * (1 if normal @ before >= 0 else -1)
    return ends + gap[:, None] * side


def _keep(tree: Tree, kept: np.ndarray) -> Tree:
    """The tree's segments where `kept` (S,); children of one that went become roots."""
    number = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)
    parents = number[tree.parents[kept]]
    return Tree(tree.kind, tree.starts_mm[kept], tree.ends_mm[kept], tree.radii_mm[kept], parents)


def _bend(tree: Tree) -> Tree:
    """The same tree with long branches in pieces that leave the parent smoothly (a Bezier curve each)."""
    along = tree.ends_mm - tree.starts_mm
    length = np.linalg.norm(along, axis=1)
    pieces = np.clip(np.rint(length / _PIECE_MM), 1, 8).astype(int)
    last = np.cumsum(pieces) - 1  # number of each branch's last piece
    before = np.where(tree.parents[:, None] < 0, along, along[tree.parents])
    before = before / np.linalg.norm(before, axis=1, keepdims=True)
    straight = tree.starts_mm + 0.4 * length[:, None] * before
    control = (tree.starts_mm + tree.ends_mm) / 4 + straight / 2
    branch = np.repeat(np.arange(len(pieces)), pieces)
    piece = np.arange(len(branch)) - (last - pieces + 1)[branch]

    def at(t: np.ndarray) -> np.ndarray:
        a, b, c = tree.starts_mm[branch], control[branch], tree.ends_mm[branch]
        t = t[:, None]
        return (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c

    starts, ends = at(piece / pieces[branch]), at((piece + 1) / pieces[branch])
    root = tree.parents[branch] < 0
    parents = np.where(piece > 0, np.arange(len(branch)) - 1, np.where(root, -1, last[tree.parents[branch]]))
    return Tree(tree.kind, starts, ends, tree.radii_mm[branch], parents)


def _nearby(region: np.ndarray, start: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """The goal, or the region's point next to it where it lies outside or too close to the start."""
    off_goal = np.linalg.norm(region - goal, axis=1)
    off_start = np.linalg.norm(region - start, axis=1)
    if off_goal.min() < _NEAR_MM and np.linalg.norm(goal - start) > _SHORTEST_MM:
        return goal
    return region[np.where(off_start > min(_SHORTEST_MM, 0.9 * off_start.max()), off_goal, np.inf).argmin()]


def _unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / np.sqrt(vector @ vector))
