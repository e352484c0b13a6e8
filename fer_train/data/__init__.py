"""Data sets: read, checked, split into folds."""

from fer_train.data.load import Dataset

__all__ = ["Dataset"]
