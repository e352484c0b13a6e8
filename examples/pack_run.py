"""Pack what a report and an export need of a run, small: the best fold's weights of each model.

    python examples/pack_run.py RUN PARTS
    cat PARTS/* | tar --extract

Their kernels are rounded to float16, and what comes of it is cut into files of at most 16 MiB, for
lines that carry no more. The scores stay those of the run, which were taken in float32.
"""

import io
import sys
import tarfile
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import h5py
import numpy as np

from fer_train.export.sources import best_fold
from fer_train.run.folder import RunFold, open_run

PART_BYTES = 16 * 2**20
LEFT_OUT = (
    *("programs", "features", "exported", "lock", "model.keras"),
    # What kills may have left.
    *(".*", "checkpoint-*", "best-*", "view-*"),
)


def halved(weights: bytes) -> bytes:
    """Return an HDF5 file with its matrices and kernels in float16."""
    buffer = io.BytesIO()
    with h5py.File(io.BytesIO(weights)) as old, h5py.File(buffer, "w") as new:

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset):
                # Variances and the like are few, and may be too large or too small for it.
                dtype = np.float16 if item.ndim > 1 and item.dtype == np.float32 else item.dtype
                target = new.create_dataset(name, data=item[()], dtype=dtype)
            else:
                target = new.require_group(name)
            target.attrs.update(item.attrs)

        old.visititems(copy)
    return buffer.getvalue()


def small_model(fold: RunFold) -> bytes:
    """Return a fold's Keras file with such weights."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(fold.keras_file) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, halved(content) if name.endswith(".h5") else content)
    return buffer.getvalue()


def main(folder: Path, parts: Path) -> None:
    """Pack a run whose folds are done."""
    run = open_run(folder)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in sorted(filter(Path.is_file, run.folder.rglob("*"))):
            places = path.relative_to(run.folder).parts
            if not any(fnmatch(place, pattern) for place in places for pattern in LEFT_OUT):
                tar.add(path)
        for model in run.recipes:
            fold = best_fold(run, model)
            content = small_model(fold)
            entry = tarfile.TarInfo(str(fold.keras_file))
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
            print(f"{model}: fold {fold.index}, {len(content) / 1e6:.1f} MB")
    parts.mkdir(exist_ok=True)
    for old in parts.glob("part-*"):
        old.unlink()
    whole = archive.getvalue()
    for number, start in enumerate(range(0, len(whole), PART_BYTES)):
        (parts / f"part-{number:02d}").write_bytes(whole[start : start + PART_BYTES])
    print(f"{parts}: {len(whole) / 1e6:.1f} MB in {len(list(parts.iterdir()))} files")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
