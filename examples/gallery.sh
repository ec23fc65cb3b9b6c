#!/bin/sh
# The gallery of the README: a clip of each task by the built-in model, seed 0, not selected.
#
#     sh examples/gallery.sh [FOLDER] [ADAPTER]
set -eu

out=${1:-docs/drawn}
adapter=${2:-tiny-grid}

draw() { # TASK NAME ARGUMENTS...
    task=$1 name=$2
    shift 2
    gridctl generate "$task" "$@" --profile tiny --adapter "$adapter" --fps 8 --force -o "$out/$name"
}

draw t2v circle.gif "a red circle moving right on a black background"
draw t2v star.gif "a blue star growing on a white background"
draw t2v heart.gif "a striped green heart bouncing on a gray background"
draw t2v triangle.gif "a yellow sketched triangle moving clockwise on a navy background"
draw multiview cube.gif "a pink cube on a beige background"

gridctl generate image "a purple star on a beige background" --profile tiny --force -o "$out/given.png"
draw i2v given.gif "$out/given.png" "a purple star shrinking on a beige background"
draw edit edited.gif "$out/circle.gif" "a blue circle moving right on a black background" \
    --source-prompt "a red circle moving right on a black background"
