from importlib.util import find_spec

import pytest

from ctssl.train import board as module
from ctssl.train.board import board

ROWS = [{"step": i, "phase": "patch", "loss": 3.0 - i, "top1": 0.25 * i} for i in range(4)]


def test_without_tensorboard_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with board(tmp_path / "events", 0) as show:
        show(ROWS[0])
    assert not (tmp_path / "events").exists()


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="needs tensorboard: pip install tensorboard")
def test_events_hold_the_rows_and_a_resumed_training_hides_lost_steps(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with board(tmp_path, 0) as show:
        for row in ROWS:
            show(row)
    with board(tmp_path, 2) as show:
        show(ROWS[2] | {"loss": 7.0})
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["patch/loss", "patch/top1"]
    assert [(e.step, e.value) for e in events.Scalars("patch/loss")] == [(0, 3.0), (1, 2.0), (2, 7.0)]
