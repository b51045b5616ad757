import threading
import time

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


def test_of_large_batches_fewer_are_read_ahead(counted):
    begun, read = counted
    pairs = prefetched(range(50), read, size=lambda _: batches.AHEAD_PATCHES)
    assert next(pairs) == (0, 0)
    wait_until(lambda: len(begun) == 3)
    assert [got for _, got in pairs] == [n * n for n in range(1, 50)]


def test_slow_and_quick_batches_come_in_the_order_asked_for():
    def read(number):
        time.sleep(0.02 * (number % 3 == 0))
        return number, threading.current_thread().name

    got = [got for _, got in prefetched(range(20), read)]
    assert [number for number, _ in got] == list(range(20))
    assert len({name for _, name in got}) == batches.READERS


def test_who_stops_early_waits_for_no_further_batch(counted):
    begun, read = counted
    gate = threading.Event()

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
    assert threading.active_count() < 10
    before = len(begun)
    time.sleep(0.05)
    assert len(begun) == before
