"""The contact sheet: one page with every scan's picture, verdict, reasons and numbers, the worst first."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctssl.prepare.quality import known

VERDICTS = ("exclude", "warn", "pass")
"""From the worst to the best."""

# What a card says, from its row: words, key, format.
_NUMBERS = (
    ("Dice right", "dice_right", "{:.3f}"),
    ("Dice left", "dice_left", "{:.3f}"),
    ("minimum Jacobian", "min_jacobian", "{:.2f}"),
    ("there and back, 95 %", "inverse_mm_p95", "{:.1f} mm"),
    ("valid landmarks", "valid_fraction", "{:.0%}"),
    ("edges", "edges", "{:.0f}"),
    ("right lung", "right_l", "{:.2f} l"),
    ("left lung", "left_l", "{:.2f} l"),
    ("left / right", "left_right_ratio", "{:.2f}"),
    ("largest spacing", "slice_mm", "{:.3g} mm"),
    ("LAA-950", "laa_950_percent", "{:.1f}%"),
)
_WORDS = (("start", "rung"), ("cut", "cut"), ("missing lung", "missing"))


def write_sheet(path: Path, rows: Sequence[dict[str, Any]], limits: dict[str, Any]) -> None:
    """Nothing; writes an HTML page that needs no network, and the pictures beside it.

    Args:
        path: of the page.
        rows: one a scan, with scan, subject, verdict, reasons (a list), picture (a file name, or None);
            image (a path), only where it may be told; of an excluded one excluded_at and advice; and the
            numbers that `quality.verdict` takes.
        limits: section quality of the config, shown as it is.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=templates, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    counts = Counter(row["verdict"] for row in rows)
    cards = [_card(number, row) for number, row in enumerate(rows)]
    text = page.get_template("sheet.html").render(
        cards=sorted(cards, key=lambda card: card["badness"]),
        counts=[(verdict, counts[verdict]) for verdict in VERDICTS],
        limits=limits,
    )
    path.write_text(text, encoding="utf-8")


def _card(number: int, row: dict[str, Any]) -> dict[str, Any]:
    """What the page shows of a scan; `badness` sorts the worst first, equals in the order of the table."""
    dice = [d for d in (known(row, "dice_right"), known(row, "dice_left")) if d is not None]
    reasons = row["reasons"]
    return {
        "number": number,
        "badness": (VERDICTS.index(row["verdict"]), -len(reasons), min(dice, default=0.0), number),
        "scan": row["scan"],
        "subject": row["subject"],
        "image": row.get("image"),
        "verdict": row["verdict"],
        "where": row["excluded_at"],
        "reasons": reasons,
        "advice": row.get("advice", ""),
        "picture": row["picture"],
        "numbers": [
            (words, text.format(value))
            for words, key, text in _NUMBERS
            if (value := known(row, key)) is not None
        ]
        + [(words, row[key]) for words, key in _WORDS if row.get(key)],
        "repairs": list(row.get("repairs") or ()),
    }
