"""Which of a folder's files are models of emotions: benchmarks of those pass over detectors."""

from pathlib import Path

import click

from fer_edge.contract import DetectorSpec, read_spec
from fer_edge.inference.onnx_file import read_model

EXPORTED = Path(__file__).parents[1] / "exported"
"""Where the shipped models are."""

exported_option = click.option(
    "--exported",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=EXPORTED,
    help="Folder of exported files. [default: exported]",
)


def emotion_models(folder: Path, pattern: str = "*.onnx") -> list[Path]:
    """Return the files of a folder that tell emotions, sorted; of other makers' too.

    Args:
        folder: Such as ``exported/``.
        pattern: ``*.keras`` for the files that ONNX files were made from.
    """
    return [
        path
        for path in sorted(folder.glob(pattern))
        if not _finds_faces(path.with_name(f"{path.name.partition('.')[0]}.onnx"), path)
    ]


def _finds_faces(*files: Path) -> bool:
    file = next((file for file in files if file.suffix == ".onnx" and file.is_file()), None)
    return file is not None and isinstance(
        read_spec(read_model(file)[1].metadata, file.name), DetectorSpec
    )
