#!/bin/sh
# The gallery of the README: a clip of each task by the built-in model, seed 0, not selected.
#
#     sh examples/gallery.sh [FOLDER] [ADAPTER]
set -eu

out=${1:-docs/drawn}
adapter=${2:-tiny-grid}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

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

# The star again as PNG frames: between two of them, and all of them with noise and flicker.
star="a blue star growing on a white background"
gridctl generate t2v "$star" --profile tiny --adapter "$adapter" -o "$scratch/star"
cp "$scratch/star/frame_0001.png" "$out/first.png"
cp "$scratch/star/frame_0024.png" "$out/last.png"
draw interpolate between.gif "$out/first.png" "$out/last.png" --prompt "$star"

python - "$scratch/star" "$out/noisy.webp" <<'END'
import sys
from pathlib import Path

import numpy as np
from PIL import Image

frames = [np.asarray(Image.open(path), float) for path in sorted(Path(sys.argv[1]).glob("*.png"))]
rng = np.random.default_rng(0)
noisy = [frame * rng.uniform(0.93, 1) + rng.normal(0, 12, frame.shape) for frame in frames]
first, *others = (Image.fromarray(frame.round().clip(0, 255).astype("uint8")) for frame in noisy)
first.save(sys.argv[2], save_all=True, append_images=others, duration=125, loop=0)
END
draw restore restored.gif "$out/noisy.webp" --prompt "$star"
draw extend extended.gif "$out/triangle.gif" --frames 48 \
    "a yellow sketched triangle moving clockwise on a navy background"
