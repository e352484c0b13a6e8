#!/bin/sh
# Ten folds of three models on a GPU that is yours for minutes. Each command ends after LIMIT seconds
# (290); give it again until it packs: it goes on where the one before ended.
#     sh examples/rented_gpu.sh fer2013.zip fer2013new.csv RUN --epochs 13 [further settings]
# RUN.parts then holds what a report and an export need. On a machine with TensorFlow and no card:
#     cat RUN.parts/* | tar --extract
#     fer-train report RUN && fer-train export RUN
set -eu
data=$1
votes=$2
run=$3
shift 3
here=$(dirname "$0")
export KERAS_BACKEND="${KERAS_BACKEND:-jax}"
# Once, since starting takes part of the minutes; it ends all of this where a card is there and unused.
[ -e "$run/config.json" ] || fer-train doctor --run "$run" >&2
status=0
timeout "${LIMIT:-290}" fer-train all --data "$data" --votes "$votes" --run "$run" --no-export \
    --models sequential,vgg16,resnet50 --weights none --folds 10 --batch-size 256 --jobs 3 "$@" || status=$?
[ "$status" -ne 124 ] || echo "The time is over; give the same command again" >&2
[ "$status" -eq 0 ] || exit "$status"
python "$here/pack_run.py" "$run" "$run.parts"
