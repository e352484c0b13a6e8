#!/bin/sh
# Train net.py on your own pictures in colour: FOLDER/EMOTION/*.jpg, faces of any size.
#     sh examples/own_architecture/train.sh FOLDER RUN [further settings, such as --epochs 5]
set -eu
here=$(dirname "$0")
folder=$1
run=$2
shift 2
fer-train all --model-file "$here/net.py:build" --data "$folder" --color rgb --image-size 64 \
    --folds 3 --run "$run/run" --export-dir "$run/models" "$@"
fer-train report "$run/run" --images --output "$run/report"
fer-edge info "$run/models/net.onnx"
