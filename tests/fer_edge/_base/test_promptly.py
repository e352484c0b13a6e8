import threading
import time

import pytest

from fer_edge._base.ahead import map_promptly


def test_results_come_in_order_with_ticks_between():
    def slow_third(number):
        time.sleep(0.35 if number == 2 else 0)
        return number * number

    found = list(map_promptly(slow_third, range(20), 3))
    assert [result for result in found if result is not None] == [n * n for n in range(20)]
    assert None in found
    assert list(map_promptly(slow_third, [], 3)) == []


def test_an_error_arrives_at_its_place_and_the_threads_end():
    def fail_at_three(number):
        if number == 3:
            raise ValueError("three")
        return number

    results = (item for item in map_promptly(fail_at_three, range(10), 2) if item is not None)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fer-edge")]


def test_a_source_without_news_keeps_nothing_back():
    """Everything that was given is answered before the second None is asked for."""
    asked = []

    def items():
        for number in range(3):
            asked.append(number)
            yield number
        while True:
            asked.append(None)
            time.sleep(0.02)
            yield None

    results = map_promptly(str, items(), 2, ahead=50)
    found = []
    while len(found) < 3:
        if (result := next(results)) is not None:
            found.append(result)
    assert found == ["0", "1", "2"]
    assert asked.count(None) <= 3
    results.close()


def test_a_stop_hands_on_what_is_done_and_waits_for_nothing():
    stop, release = [], threading.Event()

    def hang_at_one(number):
        if number == 1:
            release.wait(60)
        return number

    results = map_promptly(hang_at_one, range(100), 2, ahead=5, stopped=lambda: bool(stop))
    found = []
    while len(found) < 6:
        result = next(results)
        if result is None:
            stop.append(1)
            found += [item for item in results if item is not None]
            break
        found.append(result)
    assert found[:2] == [0, 2]
    assert 1 not in found
    release.set()
