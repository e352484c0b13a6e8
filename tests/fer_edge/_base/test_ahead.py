import threading
import time

import pytest

from fer_edge._base.ahead import map_ahead


def test_results_come_in_order_whoever_is_first():
    def slow_first(number):
        time.sleep(0.02 if number == 0 else 0)
        return number * number

    assert list(map_ahead(slow_first, range(20), 3)) == [number**2 for number in range(20)]
    assert list(map_ahead(slow_first, [], 3)) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_items_are_taken_no_further_ahead_than_needed(workers):
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    results = map_ahead(str, items(), workers)
    for _ in range(5):
        next(results)
    assert len(taken) == 5 + 2 * workers
    results.close()


def test_an_error_arrives_at_its_place_and_the_threads_end():
    def fail_at_three(number):
        if number == 3:
            raise ValueError("three")
        return number

    results = map_ahead(fail_at_three, range(10), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fer-edge")]
