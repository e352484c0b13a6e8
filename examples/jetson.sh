#!/bin/sh
# Log the faces of a camera on a Jetson's GPU; the first run installs.
#     sh examples/jetson.sh onnxruntime_gpu-VERSION-aarch64.whl cam0
# ONNXRUNTIME is the file of onnxruntime-gpu that NVIDIA builds for your JetPack. From JetPack 7
# (CUDA 13) on, 'onnxruntime-gpu[cuda,cudnn]' is the one of PyPI.
set -eu
onnxruntime=$1
source=$2
shift 2
here=$(cd "$(dirname "$0")/.." && pwd)
place=${VENV:-$HOME/.local/share/fer-edge}
if [ ! -x "$place/bin/fer-edge" ]; then
    python3 -m venv "$place"
    "$place/bin/pip" install --quiet "$here[headless]" "$onnxruntime"
fi
"$place/bin/fer-edge" doctor >&2
# The float32 files: the int8 ones are made for processors.
exec "$place/bin/fer-edge" video "$source" --provider cuda --no-display --output - "$@"
