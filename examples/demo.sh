#!/bin/sh
# The whole road on the built-in model: clips, grids, captions, an adapter, a clip from a prompt.
#
#     sh examples/demo.sh [FOLDER]
#
# All files go to FOLDER (demo by default), the cache too. Run again, it does what is missing.
set -eu

demo=${1:-demo}
steps=60
prompt="a red circle moving right on a black background"
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

# Results on stdout are the paths of what was written: not shown where they are many.
run python -m gridctl.toyworld.dataset "$demo/videos" --count 24 > /dev/null
run gridctl pack "$demo/videos" -o "$demo/vidgrid" --profile tiny > /dev/null
run gridctl caption "$demo/vidgrid" --profile tiny > /dev/null
run gridctl train tiny --data "$demo/vidgrid" --steps "$steps" -o "$demo/adapter.safetensors"
run gridctl generate t2v "$prompt" --profile tiny --force \
    --adapter "$demo/adapter.safetensors" -o "$demo/out.mp4"
run gridctl generate t2v "$prompt" --profile tiny --force \
    --adapter tiny-grid -o "$demo/out-tiny-grid.mp4"
run gridctl unpack "$demo/vidgrid/clip_0001.jpg" --force -o "$demo/clip_0001.mp4"

cat << END

$demo/videos/              24 clips, rendered here, each with a text beside it
$demo/vidgrid/             a grid and a caption for each, and metadata.jsonl
$demo/clip_0001.mp4        one of the grids as a clip again
$demo/adapter.safetensors  trained here for $steps steps; its log is $demo/adapter.run/log.jsonl
$demo/out.mp4              "$prompt", drawn with it
$demo/out-tiny-grid.mp4    the same, drawn with the adapter that ships, which learned for longer
END
