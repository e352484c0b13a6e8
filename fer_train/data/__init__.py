"""Data sets: read, checked, split into folds."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fer_train.data.load import Dataset

__all__ = ["Dataset"]


def __getattr__(name: str) -> object:
    # On first use: the command line reads the names of classes without OpenCV.
    if name == "Dataset":
        from fer_train.data.load import Dataset

        return Dataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
