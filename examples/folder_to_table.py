"""Count the emotions in a folder of pictures, and write a row a face.

python examples/folder_to_table.py photos faces.csv
"""

import csv
import sys
from collections import Counter
from pathlib import Path

from fer_edge import Classifier, FerError


def main(folder: str, table: str) -> None:
    """Write FOLDER's faces to TABLE; a picture that cannot be read is named, the others go on."""
    classify = Classifier()
    counts: Counter[str] = Counter()
    with Path(table).open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["picture", "x", "y", "width", "height", "emotion", "confidence"])
        for path in sorted(Path(folder).glob("*.jpg")):
            try:
                faces = classify(path)
            except FerError as error:
                print(f"{path}: {error.message}", file=sys.stderr)
                continue
            for face in faces:
                rows.writerow([path.name, *face.box, face.emotion, f"{face.confidence:.3f}"])
                counts[face.emotion] += 1
    for emotion, count in counts.most_common():
        print(f"{emotion}: {count}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
