"""The feature map: scans as points in two dimensions, coloured by a label."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctssl.evaluate.labels import feature_matrix, sort_classes
from ctssl.outcomes import integer_classes

DPI = 150
MIN_SCANS = 5
"""Fewer scans than this have no neighbourhoods worth the name: principal components instead."""

NEIGHBOURS = 15
SEED = 0
PANEL_IN = 3.9
PER_ROW = 4
UNLABELLED = "#c4c4c4"


def feature_map(features: pd.DataFrame, labels: pd.Series | None, title: str, out: Path) -> None:
    """Nothing; writes one map as PNG. The labels' name stands at the colours; see `feature_maps`."""
    name = "" if labels is None or labels.name is None else str(labels.name)
    feature_maps([(title, features)], labels, name, out)


def feature_maps(
    panels: Sequence[tuple[str, pd.DataFrame]], labels: pd.Series | None, label_name: str, out: Path
) -> None:
    """Nothing; writes maps side by side, one per run, as one PNG at 150 dpi.

    Args:
        panels: title and features (columns scan, subject, f000 ...) of each map.
        labels: scan -> number (colour bar) or class name (legend); scans without one are grey; None: all.
        label_name: stands at the colour bar or legend.
        out: the PNG file.
    """
    figure = draw(panels, labels, label_name)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=DPI, format="png")


def draw(panels: Sequence[tuple[str, pd.DataFrame]], labels: pd.Series | None, label_name: str) -> Any:
    """The matplotlib Figure that `feature_maps` writes; pyplot's global state is not touched."""
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):  # a $ in a label is a $, and no formula
        return _drawn(panels, labels, label_name)


def _drawn(panels: Sequence[tuple[str, pd.DataFrame]], labels: pd.Series | None, label_name: str) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(PER_ROW, len(panels))
    lines = math.ceil(len(panels) / columns)
    size = (PANEL_IN * columns + 1.1, (PANEL_IN + 0.3) * lines)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1), facecolor="white")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    colours = _Colours(labels, [scan for _, features in panels for scan in features.scan])
    for axis, (title, features) in zip(axes, panels, strict=False):
        points, kind = layout(feature_matrix(features))
        _panel(axis, points, kind, f"{title} (n = {len(features)})")
        colours.scatter(axis, points, features.scan)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    colours.explain(figure, axes[: len(panels)], label_name)
    return figure


def layout(features: np.ndarray) -> tuple[np.ndarray, str]:
    """(n, 2) places of the scans, and how they were found: UMAP, or PC (principal components).

    Features are standardised over all scans first: a picture, from which nothing is measured. Principal
    components serve below 5 scans or 2 features, where UMAP is not possible.

    Args:
        features: (n, D).
    """
    spread = features.std(0)
    scaled = (features - features.mean(0)) / np.where(spread > 0, spread, 1)
    if len(scaled) < MIN_SCANS or scaled.shape[1] < 2:
        left, sizes, _ = np.linalg.svd(scaled, full_matrices=False)
        found = (left * sizes)[:, :2]
        return np.pad(found, ((0, 0), (0, 2 - found.shape[1]))), "PC"
    with warnings.catch_warnings():
        # umap names the optional part that it lacks at import; only that part needs Tensorflow
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        import umap
    # one job: what a fixed seed allows; init from principal components: defined for few scans, too
    mapper = umap.UMAP(n_neighbors=min(NEIGHBOURS, len(scaled) - 1), random_state=SEED, n_jobs=1, init="pca")
    return np.asarray(mapper.fit_transform(scaled), float), "UMAP"


def _panel(axis: Any, points: np.ndarray, kind: str, title: str) -> None:
    """Title, names and a square frame around the points, so that panels are alike and distances true."""
    axis.set_title(title if kind == "UMAP" else f"{title}\nprincipal components: too few for UMAP", size=11)
    axis.set_xlabel(f"{kind} 1", size=9)
    axis.set_ylabel(f"{kind} 2", size=9)
    middle = (points.max(0) + points.min(0)) / 2
    half = max(float(np.ptp(points, axis=0).max()) * 0.56, 1e-3)
    axis.set_xlim(middle[0] - half, middle[0] + half)
    axis.set_ylim(middle[1] - half, middle[1] + half)
    axis.set_aspect("equal")
    axis.tick_params(labelsize=8, color="#888888", labelcolor="#555555")
    axis.grid(color="#ececec", linewidth=0.7)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axis.spines[side].set_color("#888888")


class _Colours:
    """One colour scale for all panels: a bar for numbers, a legend for classes."""

    def __init__(self, labels: pd.Series | None, scans: Sequence[str]) -> None:
        import matplotlib
        from matplotlib.colors import Normalize

        known = {} if labels is None else labels[labels.index.isin(scans)].to_dict()
        self.labels, self.plain, self.missing = known, labels is None, False
        self.numbers = all(isinstance(value, (int, float)) for value in known.values())
        if self.numbers:
            ends = (min(known.values()), max(known.values())) if known else (0, 1)
            self.norm, self.map = Normalize(*ends), matplotlib.colormaps["viridis"]
            return
        self.classes = sort_classes(known.values())
        ordered = integer_classes(self.classes) or len(self.classes) > 10
        palette = matplotlib.colormaps["viridis" if ordered else "tab10"]
        steps = np.linspace(0, 0.93, len(self.classes)) if ordered else range(len(self.classes))
        self.palette = {name: palette(step) for name, step in zip(self.classes, steps, strict=True)}

    def scatter(self, axis: Any, points: np.ndarray, scans: pd.Series) -> None:
        """Draw the points; unlabelled ones first, below the others."""
        style = {"s": 46 if len(points) <= 200 else 14, "linewidths": 0.5, "edgecolors": "white"}
        known = scans.isin(list(self.labels)).to_numpy()
        axis.scatter(*points[~known].T, color="#4878a8" if self.plain else UNLABELLED, **style)
        values = [self.labels[scan] for scan in scans[known]]
        if self.numbers:
            axis.scatter(*points[known].T, c=values, cmap=self.map, norm=self.norm, **style)
        else:
            axis.scatter(*points[known].T, color=[self.palette[name] for name in values], **style)
        self.missing |= not known.all()

    def explain(self, figure: Any, axes: Sequence[Any], name: str) -> None:
        """Draw the colour bar or legend to the right of the panels."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.lines import Line2D

        if self.plain:
            return
        entries = {} if self.numbers else dict(self.palette)
        if self.numbers and self.labels:
            bar = figure.colorbar(ScalarMappable(self.norm, self.map), ax=axes, shrink=0.8, pad=0.02)
            bar.set_label(name, size=10)
            bar.ax.tick_params(labelsize=8)
            bar.outline.set_visible(False)
        if self.missing:
            entries["no label"] = UNLABELLED
        marks = [
            Line2D([], [], marker="o", linestyle="", color=colour, markersize=7, label=text)
            for text, colour in entries.items()
        ]
        if marks:
            place = "outside right lower" if self.numbers else "outside right center"
            title = None if self.numbers else name
            figure.legend(handles=marks, title=title, loc=place, frameon=False, fontsize=9, title_fontsize=10)
