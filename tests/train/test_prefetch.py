import threading
import time

import numpy as np
import pytest

from ctssl.train import batches
from ctssl.train.batches import prefetched


@pytest.fixture
def counted():
    """What was begun to be read, and a reader that notes it."""
    begun = []

    def read(number):
        begun.append(number)
        return number * number

    return begun, read


def wait_until(true):
    for _ in range(500):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError


def test_some_batches_are_read_ahead_and_no_more(counted):
    begun, read = counted
    pairs = prefetched(range(50), read)
    assert next(pairs) == (0, 0)
    wait_until(lambda: len(begun) == 1 + batches.AHEAD)
    assert next(pairs) == (1, 1)
    wait_until(lambda: len(begun) == 2 + batches.AHEAD)
    assert [got for _, got in pairs] == [n * n for n in range(2, 50)]


@pytest.mark.parametrize(
    ("gigabytes", "ahead"), [(0.01, 4), (0.25, 4), (0.26, 3), (0.5, 2), (0.51, 1), (1.0, 1), (40.0, 1)]
)
def test_of_large_batches_fewer_are_read_ahead(counted, gigabytes, ahead):
    """At most a gigabyte beside the batch in use, or one batch where it is larger; always one."""
    begun, read = counted
    pairs = prefetched(range(50), read, size=lambda _: int(gigabytes * 2**30))
    for number in range(5):
        assert next(pairs) == (number, number * number)
        wait_until(lambda: len(begun) >= number + 1 + ahead)  # noqa: B023
        time.sleep(0.01)
        assert len(begun) == number + 1 + ahead
    assert [got for _, got in pairs] == [n * n for n in range(5, 50)]


def test_a_large_batch_waits_for_room_and_small_ones_after_it_for_their_turn(counted):
    begun, read = counted
    large = 2**30
    pairs = prefetched(range(8), read, size=lambda n: large if n in (2, 5) else 1)
    seen = []
    for number, _ in pairs:
        time.sleep(0.05)
        seen.append((number, max(begun)))
    assert seen == [(0, 1), (1, 2), (2, 4), (3, 4), (4, 5), (5, 7), (6, 7), (7, 7)]


def test_bytes_of_a_batch_are_those_that_are_read(people):
    cohort = batches.Cohort.of(people.stores, people.subjects)
    for members in ([0, 3], [2], [4, 1, 0]):
        sample = batches.scan_sample(cohort, np.array(members))
        patches = batches.read_batch(people.stores, cohort, sample).patches
        assert batches.patch_bytes(people.stores, sample) == patches.numel() * patches.element_size()


def test_slow_and_quick_batches_come_in_the_order_asked_for():
    def read(number):
        time.sleep(0.02 * (number % 3 == 0))
        return number, threading.current_thread().name

    got = [got for _, got in prefetched(range(20), read)]
    assert [number for number, _ in got] == list(range(20))
    assert len({name for _, name in got}) == batches.READERS


def test_who_stops_early_waits_for_no_further_batch(counted):
    begun, read = counted
    gate, others = threading.Event(), set(threading.enumerate())

    def slow(number):
        gate.wait(5)
        return read(number)

    pairs = prefetched(range(50), slow)
    gate.set()
    next(pairs)
    gate.clear()
    threading.Timer(0.1, gate.set).start()
    pairs.close()
    assert len(begun) <= 1 + batches.AHEAD
    left = set(threading.enumerate()) - others
    assert not [thread for thread in left if not isinstance(thread, threading.Timer)], "all readers ended"
    before = len(begun)
    time.sleep(0.05)
    assert len(begun) == before
