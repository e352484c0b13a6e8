"""Work done ahead in a few threads, in order and in bounded memory."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

TICK_S = 0.1
"""The longest time without a word from `map_promptly`."""
_PATIENCE_S = 0.1
"""The longest time that `map_promptly` keeps a result back to have more work under way."""
_SLOW_S = 0.2
"""Sources that take longer for an item are slower than the work, which then need not run ahead."""

THREAD_NAMES = "fer-edge"


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """Apply a function to items in threads, a bounded number of items ahead of the reader.

    OpenCV and onnxruntime release the interpreter's lock, so decoding and detection go on while
    the reader runs the model.

    Args:
        function: Called in a worker thread; what it raises is raised here, in its place.
        items: Read as needed, in the reader's thread.
        workers: Threads.

    Yields:
        The results, in the order of the items.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix=THREAD_NAMES) as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def map_promptly(
    function: Callable[[Item], Result],
    items: Iterable[Item | None],
    workers: int,
    ahead: int = 0,
    *,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Result | None]:
    """Do as `map_ahead` does for a reader who hands each result on as soon as it is known.

    Args:
        function: Called in a worker thread; what it raises is raised here, in its place.
        items: Read as needed, in the reader's thread; None where there is none for now.
        workers: Threads.
        ahead: Items beyond two for each thread whose results may wait for the reader.
        stopped: Whether to end now: what is done is still handed on, what has not begun is
            dropped, and nobody waits for what is under way.

    Yields:
        The results, in the order of the items; None where none is to be expected for now, and at
        the latest after `TICK_S` without a result.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix=THREAD_NAMES)
    pending: deque[Future[tuple[Result, float]]] = deque()

    def work(item: Item) -> tuple[Result, float]:
        return function(item), time.monotonic()

    try:
        asked_s = time.monotonic()
        for item in items:
            if stopped():
                break
            # The next item may be long in coming: whatever is under way comes first.
            last = item is None or time.monotonic() - asked_s > _SLOW_S
            if item is not None:
                pending.append(pool.submit(work, item))
            while pending and not stopped():
                full = len(pending) > 2 * workers + ahead
                if not (full or last or _overdue(pending[0])):
                    break
                if pending[0].done():
                    yield pending.popleft().result()[0]
                elif item is None:
                    break
                elif wait([pending[0]], TICK_S).not_done:
                    yield None
            if last:
                yield None
            asked_s = time.monotonic()
        while pending and not stopped():
            if wait([pending[0]], TICK_S).done:
                yield pending.popleft().result()[0]
            else:
                yield None
        for future in pending:
            if not future.cancel() and future.done():
                yield future.result()[0]
    finally:
        pool.shutdown(wait=not stopped(), cancel_futures=True)


def _overdue(future: Future[tuple[Result, float]]) -> bool:
    if not future.done():
        return False
    return future.exception() is not None or time.monotonic() - future.result()[1] > _PATIENCE_S
