import pytest

from ctssl.config.methods import OPTIONS
from ctssl.train.collapse import LEAST_STD, STEPS, CollapseWatch


def told(rows, method="context-aware", **options):
    words = []
    watch = CollapseWatch(words.append, OPTIONS[method](**options))
    for row in rows:
        watch.saw(row)
    return words


def rows(std, steps=STEPS, phase="patch", first=0):
    return [{"step": first + i, "phase": phase, "embedding_std": std} for i in range(steps)]


def test_a_collapse_is_told_once_a_phase_with_its_step():
    words = told([*rows(0.02, 3 * STEPS), *rows(0.01, phase="graph", first=3 * STEPS)])
    assert len(words) == 2
    assert f"patch phase has collapsed: over {STEPS} steps up to step {STEPS - 1} " in words[0]
    assert "embedding_std 0.020" in words[0]
    assert f"step {4 * STEPS - 1} " in words[1]


def test_a_sound_training_a_short_one_and_one_without_keys_hear_nothing():
    assert told(rows(LEAST_STD * 1.01, 3 * STEPS)) == []
    assert told(rows(0.0, STEPS - 1)) == []
    assert told([{"step": i, "phase": "patch", "loss": 0.0} for i in range(2 * STEPS)]) == []


def test_the_latest_steps_count():
    assert told([*rows(0.0, STEPS // 2), *rows(0.4, STEPS), *rows(0.0, STEPS // 2)]) == []
    assert len(told([*rows(0.4, 5 * STEPS), *rows(0.0, STEPS)])) == 1


QUEUE = {"batch_negatives", "queue_size"}


@pytest.mark.parametrize(
    ("method", "options", "named"),
    [
        ("voco", {}, set()),
        ("pcrl", {"form": "released"}, {"queue_size"}),
        ("pcrl", {"batch_negatives": False}, QUEUE),
        ("moco-v2", {"batch_negatives": False}, QUEUE),
        ("drasclr", {"batch_negatives": True}, {"queue_size"}),
    ],
)
def test_only_options_that_the_method_has_are_named(method, options, named):
    [words] = told(rows(0.0), method, **options)
    assert {name for name in QUEUE if name in words} == named
    assert "learning_rate" in words
    assert "key" not in words
