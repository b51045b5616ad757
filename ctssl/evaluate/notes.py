"""What probes note, each thing once, with the rows and targets that it is said of."""

from collections.abc import Collection, Mapping

Key = tuple[str, str, str]
"""Row label, target, seed (or seed and part)."""


def each_once(notes: Mapping[Key, str]) -> list[str]:
    """Sentences such as `A; B (gold): words`, in the order in which things are said first.

    Args:
        notes: of every probe that was asked for; "" where it has nothing to say. Parts stand between "; ".
    """
    said: dict[str, list[Key]] = {}
    for key, note in notes.items():
        for part in dict.fromkeys(note.split("; ") if note else ()):
            said.setdefault(part, []).append(key)
    by_place: dict[str, list[str]] = {}
    for part, keys in said.items():
        by_place.setdefault(_where(keys, notes), []).append(part)
    return [f"{place}: {'; '.join(parts)}" for place, parts in by_place.items()]


def _where(keys: Collection[Key], every: Collection[Key]) -> str:
    """Whose a note is: all rows', a row's, or that of some targets and seeds of a row."""
    if len(keys) == len(every) > 1:
        return "all rows"
    return "; ".join(_of_row(row, keys, every) for row in dict.fromkeys(row for row, _, _ in keys))


def _of_row(row: str, keys: Collection[Key], every: Collection[Key]) -> str:
    own, asked = ([key for key in some if key[0] == row] for some in (keys, every))
    if len(own) == len(asked):
        return row
    names = []
    for target in dict.fromkeys(target for _, target, _ in own):
        seeds = [seed for _, name, seed in own if name == target]
        whole = len(seeds) == sum(name == target for _, name, _ in asked)
        names.append(target if whole else f"{target} {', '.join(seeds)}")
    return f"{row} ({', '.join(names)})"
