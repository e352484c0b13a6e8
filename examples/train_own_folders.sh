#!/bin/sh
# Train the small network on your own pictures: FOLDER/train/EMOTION/*.jpg, faces of any size.
#     sh examples/train_own_folders.sh FOLDER RUN [further settings, such as --epochs 5]
set -eu
folder=$1
run=$2
shift 2
fer-train explore --data "$folder" --output "$run/explore"
fer-train all --data "$folder" --models edge --folds 3 --run "$run/run" --export-dir "$run/models" "$@"
fer-train report "$run/run" --output "$run/report"
fer-edge info "$run/models/edge.onnx"
