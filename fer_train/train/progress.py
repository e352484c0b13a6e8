"""What a person sees on standard error while folds train."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    from fer_train.train.fold import Progress


Watcher = Callable[["Progress"], None]
"""Is told of each step of a training."""


class FoldReporter:
    """Shows one fold: a bar with the time left on a terminal, and a line for each epoch.

    Args:
        title: What stands before each line, such as ``vgg16 fold 2 (3 of 10)``.
        device: Back end, device and precision.
        total: Folds that are still to be done, this one included.
    """

    def __init__(self, title: str, device: str, total: int) -> None:
        """Start the clock; the bar appears with the first batch."""
        self.title, self.device, self.total = title, device, total
        self._bar: Any = None
        self._started = time.perf_counter()
        self._first_epoch = 0
        self._last: Progress | None = None

    def __enter__(self) -> "FoldReporter":
        """Say what runs on what; return the reporter, to be passed to `FoldTrainer.train`."""
        tqdm.write(f"{self.title}: {self.device}", file=sys.stderr)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Take the bar away, and say so where training has stopped early."""
        if self._bar is not None:
            self._bar.close()
        last = self._last
        if kind is None and last is not None and last.epoch < last.epochs:
            tqdm.write(
                f"{self.title} stopped early, after epoch {last.epoch} of {last.epochs}: the "
                "validation loss no longer fell (--patience)",
                file=sys.stderr,
            )

    def __call__(self, progress: "Progress") -> None:
        """Show one step."""
        if self._bar is None:
            self._first_epoch = progress.epoch - 1
            self._bar = tqdm(
                desc=self.title,
                total=progress.epochs * progress.images_total,
                initial=self._first_epoch * progress.images_total,
                unit="image",
                unit_scale=True,
                file=sys.stderr,
                disable=None,
                leave=False,
            )
        if progress.row is None:
            done = (progress.epoch - 1) * progress.images_total + progress.images
            self._bar.update(done - self._bar.n)
            return
        row, self._last = progress.row, progress
        tqdm.write(
            f"{self.title} epoch {progress.epoch}/{progress.epochs} "
            f"loss {row['loss']:.4f} accuracy {row['accuracy']:.4f} "
            f"val_loss {row['val_loss']:.4f} val_accuracy {row['val_accuracy']:.4f} "
            + (f"val_agreement {row['val_agreement']:.4f} " if "val_agreement" in row else "")
            + f"{row['seconds']:.0f} s, {self._left(progress)} left"
            + _checkpoint_text(progress.checkpoint),
            file=sys.stderr,
        )

    def _left(self, progress: "Progress") -> str:
        """Return the time that this fold and the ones after it take at the pace so far."""
        pace = (time.perf_counter() - self._started) / (progress.epoch - self._first_epoch)
        epochs = progress.epochs - progress.epoch + (self.total - 1) * progress.epochs
        return format_duration(pace * epochs)


def _checkpoint_text(checkpoint: tuple[int, float] | None) -> str:
    if checkpoint is None:
        return ""
    size, seconds = checkpoint
    return f"; last checkpoint {size / 1e6:.1f} MB in {seconds:.1f} s"


def format_duration(seconds: float) -> str:
    """Return a time such as ``2 h 5 min``, ``5 min`` or ``40 s``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
