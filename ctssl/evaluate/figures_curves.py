"""The figure of curves over few labels: a panel a target, a line a row."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctssl.evaluate.figures import DPI, PANEL_IN
from ctssl.evaluate.tables import SHOWN

LEAST_R2 = -0.5
"""What the figure shows of R2: below it, nothing is told apart that matters."""

PER_ROW = 3  # panels, since the legend stands beside them
_FORMS = (("o", "-"), ("s", "--"), ("^", ":"), ("D", "-."))
"""Marker and line of the first ten rows, of the next ten, and so on: a palette has ten colours."""
_NAMES = 14  # that the legend holds beside one line of panels
_SPREAD = 0.16  # of the number of subjects, over all rows: bars beside each other, not on each other


def curves_figure(table: pd.DataFrame, targets: Sequence[str], out: Path) -> None:
    """Nothing; writes the figure as PNG.

    Args:
        table: as `curves_table` gives it.
        targets: names, in the order of the panels.
        out: the PNG file.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    draw_curves(table, targets).savefig(out, dpi=DPI, format="png")


def draw_curves(table: pd.DataFrame, targets: Sequence[str]) -> Any:
    """The matplotlib Figure: the shown metric by training subjects (logarithmic), with one sd over draws.

    Of a run with several seeds the mean of their values, and of their standard deviations.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows = list(dict.fromkeys(table.row))
    forms = [_form(place) for place in range(len(rows))]
    columns = max(1, min(PER_ROW, len(targets)))
    lines = max(1, math.ceil(len(targets) / columns))
    stacks = max(1, math.ceil(len(rows) / (_NAMES * lines)))
    with matplotlib.rc_context({"text.parse_math": False}):  # a $ in a label is a $, and no formula
        size = (PANEL_IN * columns + 2.4 * stacks, PANEL_IN * 0.8 * lines)
        engine = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
        figure = Figure(figsize=size, layout=engine, facecolor="white")
        FigureCanvasAgg(figure)
        axes = list(figure.subplots(lines, columns, squeeze=False).flat)
        for axis, target in zip(axes, targets, strict=False):
            own = table[table.target == target]
            metric = SHOWN[own.task.iloc[0]][0] if len(own) else "nothing measured"
            _panel(axis, own[own.metric == metric], f"{target}: {metric}", rows, forms)
        for axis in axes[len(targets) :]:
            axis.set_axis_off()
        _legend(figure, rows, forms, stacks)
    return figure


def _form(place: int) -> dict[str, Any]:
    """Colour, marker and line of a row."""
    import matplotlib

    palette = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
    marker, line = _FORMS[place // len(palette) % len(_FORMS)]
    return {
        "color": palette[place % len(palette)],
        "marker": marker,
        "linestyle": line,
        "markersize": 4,
        "linewidth": 1.4,
    }


def _panel(axis: Any, points: pd.DataFrame, title: str, rows: Sequence[str], forms: Sequence[Any]) -> None:
    axis.set_title(title, size=11)
    axis.set_xlabel("training subjects with a label (bars: sd over draws)", size=9)
    for place, row in enumerate(rows):
        own = points[points.row == row]
        if own.empty:
            continue
        means = (
            own.assign(sd=own.sd.astype(float).fillna(0)).groupby("share")[["subjects", "value", "sd"]].mean()
        )
        beside = 1 + _SPREAD * (place / max(1, len(rows) - 1) - 0.5)
        value = means.value.astype(float).to_numpy()
        axis.errorbar(
            means.subjects * beside, value, np.asarray(means.sd), capsize=2, elinewidth=0.8, **forms[place]
        )
    if len(points):
        axis.set_xscale("log")
        ticks = points.groupby("share").subjects.mean()
        axis.set_xticks(ticks, [f"{subjects:.0f}" for subjects in ticks])
        axis.set_xticks([], minor=True)
    if (points.metric == "r2").any() and axis.get_ylim()[0] < LEAST_R2:
        # One probe that was fitted on a few subjects can be worse than this by a hundred, and so can its sd.
        axis.set_ylim(LEAST_R2, 1.05)
        axis.set_title(f"{title} (below {LEAST_R2:g} not shown)", size=11)
    axis.tick_params(labelsize=8, color="#888888", labelcolor="#555555")
    axis.grid(color="#ececec", linewidth=0.7)
    axis.set_axisbelow(True)


def _legend(figure: Any, rows: Sequence[str], forms: Sequence[Any], stacks: int) -> None:
    from matplotlib.lines import Line2D

    marks = [Line2D([], [], label=row, **form) for row, form in zip(rows, forms, strict=True)]
    if marks:
        figure.legend(handles=marks, loc="outside right center", frameon=False, fontsize=9, ncols=stacks)
