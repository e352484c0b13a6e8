"""Classify more pictures than one machine reads, with Ray Data (pip install 'fer-edge[cluster]').

python examples/ray_data.py PICTURES FACES

PICTURES is a folder, one in a bucket (s3://bucket/photos), or a text file that names a picture a
line. FACES becomes a folder, or one in a bucket, of Parquet files with a row a face. Each node must
reach both. Pictures are done by shards, each a file that appears whole: the same command goes on
where an earlier one ended, and a worker that is lost costs the shards it was at.
"""

import hashlib
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet
import ray

from fer_edge import Classifier, FerError, read_image
from fer_edge.image.read import IMAGE_SUFFIXES

_FILE_SYSTEMS: dict[str, pyarrow.fs.FileSystem] = {}


def file_system(root: str) -> pyarrow.fs.FileSystem:
    """Return the file system that an address begins with, such as s3://bucket."""
    if root not in _FILE_SYSTEMS:
        _FILE_SYSTEMS[root] = pyarrow.fs.FileSystem.from_uri(root)[0]
    return _FILE_SYSTEMS[root]


def absolute(name: str) -> str:
    """Return a path as other processes find it too; addresses are left as they are."""
    return name if "://" in name else str(Path(name).resolve())


def locate(name: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Return where a path or an address lies: its file system, and its path there."""
    if "://" not in name:
        return file_system("file:///"), name
    scheme, _, place = name.partition("://")
    return file_system(f"{scheme}://{place.partition('/')[0]}"), place


def list_pictures(source: str) -> list[str]:
    """Return the pictures of a folder with all below it, sorted, or of a listing."""
    files, place = locate(source)
    known = files.get_file_info(place)
    if known.type == pyarrow.fs.FileType.NotFound:
        raise click.UsageError(f"Expected a folder or a listing, found none at {source}")
    if known.is_file:
        with files.open_input_file(place) as listing:
            lines = listing.read().decode().splitlines()
        return [absolute(line) for line in lines if line.strip()]
    scheme = f"{source.partition('://')[0]}://" if "://" in source else ""
    below = files.get_file_info(pyarrow.fs.FileSelector(place, recursive=True))
    return sorted(
        scheme + one.path
        for one in below
        if one.is_file and Path(one.path).suffix.lower() in IMAGE_SUFFIXES
    )


class ShardClassifier:
    """One Classifier on each worker, which writes the faces of a shard as one Parquet file."""

    def __init__(self, output: str, model: str | None, threads: int) -> None:
        """Load the model."""
        self._output = output
        self._classify = Classifier(model, threads=threads, mirror=True, spin=False)
        labels = self._classify.spec.columns
        head = [("image", pa.string()), ("error", pa.string()), ("face", pa.int32())]
        box = [(name, pa.int32()) for name in ("x", "y", "w", "h")]
        tail = [("emotion", pa.string()), ("confidence", pa.float32())]
        self._schema = pa.schema([*head, *box, *tail, *((label, pa.float32()) for label in labels)])

    def __call__(self, shard: dict[str, Any]) -> dict[str, Any]:
        """Classify the pictures of a shard and write what was found."""
        rows = list(self._rows(shard["paths"]))
        files, folder = locate(self._output)
        # Another worker may be at the same shard, if this one was taken for lost.
        temporary = f"{folder}/.{uuid.uuid4().hex}"
        table = pa.Table.from_pylist(rows, self._schema)
        pyarrow.parquet.write_table(table, temporary, filesystem=files)
        files.move(temporary, f"{folder}/{shard['name']}")
        failed = sum(row.get("error") is not None for row in rows)
        return {"pictures": len(shard["paths"]), "failed": failed}

    def _rows(self, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
        read: list[str] = []
        failed: list[dict[str, Any]] = []

        def frames() -> Iterator[np.ndarray]:
            for path in paths:
                try:
                    if path.startswith(("http://", "https://")):
                        frame = read_image(path)
                    else:
                        files, place = locate(path)
                        with files.open_input_file(place) as file:
                            frame = read_image(file.read())
                except (FerError, OSError) as error:
                    failed.append({"image": path, "error": str(error)})
                    continue
                read.append(path)
                yield frame

        # What is read as it goes is named in the same order.
        for faces, path in zip(self._classify.classify_many(frames()), read, strict=False):
            if not faces:
                yield {"image": path}
            for number, face in enumerate(faces):
                x, y, w, h = face.box
                yield {
                    **{"image": path, "face": number, "x": x, "y": y, "w": w, "h": h},
                    **{"emotion": face.emotion, "confidence": face.confidence},
                    **face.probabilities,
                    **face.affect,
                }
        yield from failed


def shards(pictures: Sequence[str], size: int) -> list[dict[str, Any]]:
    """Part pictures into shards; a shard's name tells which pictures it holds."""
    parts = [pictures[start : start + size] for start in range(0, len(pictures), size)]
    digests = [hashlib.sha256("\n".join(part).encode()).hexdigest()[:12] for part in parts]
    return [
        {"name": f"{number:06}-{digest}.parquet", "paths": list(part)}
        for number, (part, digest) in enumerate(zip(parts, digests, strict=True))
    ]


@click.command()
@click.argument("pictures")
@click.argument("faces")
@click.option("--model", metavar="NAME|FILE", help="[default: edge.onnx]")
@click.option("--shard", "size", type=click.IntRange(1), default=500, help="Pictures in a file.")
@click.option("--workers", type=click.IntRange(1), default=2, help="That hold a model each.")
@click.option("--threads", type=click.IntRange(1), default=1, help="Processors of each worker.")
@click.option("--address", help="Of a Ray cluster; auto for the one around. [default: a new one]")
def main(
    pictures: str,
    faces: str,
    model: str | None,
    size: int,
    workers: int,
    threads: int,
    address: str | None,
) -> None:
    """Write the faces of PICTURES to FACES."""
    faces = absolute(faces)
    wanted = shards(list_pictures(absolute(pictures)), size)
    files, folder = locate(faces)
    files.create_dir(folder, recursive=True)
    there = {
        Path(one.path).name
        for one in files.get_file_info(pyarrow.fs.FileSelector(folder))
        if one.path.endswith(".parquet")
    }
    if others := there - {shard["name"] for shard in wanted}:
        raise click.UsageError(
            f"Expected shards of these pictures in {faces}, received {min(others)} of others; "
            "give another folder, or the --shard of before"
        )
    left = [shard for shard in wanted if shard["name"] not in there]
    print(f"{len(wanted)} shards, {len(left)} to do", file=sys.stderr, flush=True)
    if not left:
        return
    ray.init(address=address, log_to_driver=False)
    done = ray.data.from_items(left, override_num_blocks=len(left)).map(
        ShardClassifier,
        fn_constructor_args=(faces, model, threads),
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(left))),
        num_cpus=threads,
    )
    counted = failed = 0
    for shard in done.iter_rows():
        counted += shard["pictures"]
        failed += shard["failed"]
    print(f"{counted} pictures, {failed} could not be read")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
