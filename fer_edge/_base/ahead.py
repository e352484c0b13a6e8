"""Work done ahead in a few threads, in order and in bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int = 0
) -> Iterator[Result]:
    """Apply a function to items in threads, a bounded number of items ahead of the reader.

    OpenCV and onnxruntime release the interpreter's lock, so decoding and detection go on while
    the reader runs the model.

    Args:
        function: Called in a worker thread; what it raises is raised here, in its place.
        items: Read as needed, in the reader's thread.
        workers: Threads.
        ahead: Items beyond two for each thread whose results may wait for the reader.

    Yields:
        The results, in the order of the items.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="fer-edge") as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 2 * workers + ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
