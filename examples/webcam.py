"""Say each change of the largest face's emotion, from a camera, a file or a stream.

python examples/webcam.py cam0
"""

import sys

from fer_edge import Classifier, VideoSource


def main(source: str) -> None:
    """Print the seconds and the emotion whenever it changes; Ctrl-C ends."""
    classify = Classifier()
    last = None
    with VideoSource(source) as frames:
        for frame in frames:
            faces = classify(frame.image_bgr)
            if faces and faces[0].emotion != last:
                last = faces[0].emotion
                print(f"{frame.time_s:.1f} s: {last}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
