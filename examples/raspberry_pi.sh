#!/bin/sh
# Log the largest face of a camera on a Raspberry Pi with a 64-bit system; the first run installs.
#     sh examples/raspberry_pi.sh cam0                            # a USB camera
#     rpicam-vid --nopreview --timeout 0 --codec mjpeg --output - | sh examples/raspberry_pi.sh -
set -eu
source=$1
shift
here=$(cd "$(dirname "$0")/.." && pwd)
place=${VENV:-$HOME/.local/share/fer-edge}
if [ ! -x "$place/bin/fer-edge" ]; then
    python3 -m venv "$place"
    "$place/bin/pip" install --quiet "$here[cpu,headless]"
fi
# The int8 files suit its processor; every second frame leaves room for other programs.
exec "$place/bin/fer-edge" video "$source" --model edge.int8.onnx --detector-model face.int8.onnx \
    --largest --every 2 --smooth 0.5 --no-display --output - "$@"
