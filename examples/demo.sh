#!/bin/sh
# Teaches the built-in model a motion that it has never seen, and shows it before and after.
#
#     sh examples/demo.sh [FOLDER]
#
# All files go to FOLDER (default: demo), the cache too. Run again, it does what is missing.
set -eu

demo=${1:-demo}
examples=$(dirname "$0")
export GRIDCTL_CACHE="$demo/cache"

run() { # show a command as one would type it, then run it
    printf '\n$' >&2
    for word; do
        case $word in
            *" "*) printf ' "%s"' "$word" >&2 ;;
            *) printf ' %s' "$word" >&2 ;;
        esac
    done
    printf '\n' >&2
    "$@"
}

mkdir -p "$demo"
cat > "$demo/prompts.txt" << END
a red heart beating on a black background
a blue star beating on a white background
a striped green circle beating on a beige background
END

# stdout has the paths of what was written; they are printed at the end instead.
[ -d "$demo/videos" ] || run python "$examples/beating.py" "$demo/videos"
run gridctl pack "$demo/videos" -o "$demo/vidgrid" --profile tiny > /dev/null
run gridctl caption "$demo/vidgrid" --profile tiny > /dev/null
run gridctl generate t2v --prompts "$demo/prompts.txt" --adapter tiny-grid --profile tiny \
    -o "$demo/before" > /dev/null
run gridctl train "$examples/beating.toml" --data "$demo/vidgrid" -o "$demo/beating.safetensors" \
    > /dev/null
run gridctl generate t2v --prompts "$demo/prompts.txt" --adapter "$demo/beating.safetensors" \
    --profile tiny -o "$demo/after" > /dev/null
run python "$examples/compare.py" "$demo/before" "$demo/after" "$demo/compare" > /dev/null
first=$(ls "$demo/vidgrid"/*.jpg | head -n 1)
[ -e "$demo/clip.mp4" ] || run gridctl unpack "$first" -o "$demo/clip.mp4" > /dev/null

cat << END

32 clips of beating shapes taught the built-in model to beat. None of them showed a red heart.

$demo/compare.png          open this: each prompt before and after, as rows of frames
$demo/compare.gif          the same, enlarged and moving
$demo/before/              drawn by tiny-grid, the adapter that ships
$demo/after/               drawn by the new adapter, with the same prompts and seeds
$demo/beating.safetensors  the new adapter; its run is in $demo/beating.run/
$demo/vidgrid/             the grids and their captions;  $demo/clip.mp4 is one of them, unpacked
END
