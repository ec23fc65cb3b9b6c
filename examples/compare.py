"""Two folders of clips, side by side: a contact sheet and one enlarged animation.

python examples/compare.py BEFORE AFTER NAME

Writes NAME.png, a row of frames for each clip, and NAME.gif, where the clips play. Clips of the
same name belong together: BEFORE's is above, or left.
"""

import sys
from pathlib import Path

import av
from PIL import Image

SHOWN = 12  # frames of a clip on the sheet
SIDE = 96  # of a frame on the sheet, in pixels
ENLARGED = 256  # of a frame in the animation
GAP = 4


def read(path: Path) -> list[Image.Image]:
    with av.open(str(path)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def paste(rows: list[list[Image.Image]], side: int) -> Image.Image:
    """The images as rows of squares, on white."""
    step = side + GAP
    width, height = max(map(len, rows)) * step - GAP, len(rows) * step - GAP
    sheet = Image.new("RGB", (width, height), "white")
    for top, row in enumerate(rows):
        for left, image in enumerate(row):
            enlarged = image.resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(enlarged, (left * step, top * step))
    return sheet


def main(before: Path, after: Path, name: Path) -> None:
    names = sorted(path.name for path in after.glob("*.mp4"))
    pairs = [(read(before / name), read(after / name)) for name in names]
    rows = []
    for pair in pairs:
        for frames in pair:
            rows.append(frames[:: max(1, len(frames) // SHOWN)])
    paste(rows, SIDE).save(name.with_suffix(".png"))
    count = min(len(frames) for pair in pairs for frames in pair)
    movie = [paste([[pair[0][k], pair[1][k]] for pair in pairs], ENLARGED) for k in range(count)]
    movie[0].save(
        name.with_suffix(".gif"), save_all=True, append_images=movie[1:], duration=125, loop=0
    )
    print(name.with_suffix(".png"))
    print(name.with_suffix(".gif"))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
