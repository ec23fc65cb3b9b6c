"""The words of the toy world: what a prompt for the built-in model can ask for.

The order of these lists decides which scenes are held out (`scene.is_held_out`): append only.
"""

from __future__ import annotations

RGB = tuple[int, int, int]

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
SOLIDS = ("cube", "pyramid", "cylinder", "torus")
COLORS: dict[str, RGB] = {
    "red": (215, 25, 40),
    "green": (30, 165, 50),
    "blue": (30, 80, 235),
    "yellow": (255, 225, 40),
    "orange": (255, 125, 0),
    "purple": (140, 35, 185),
    "cyan": (30, 205, 225),
    "pink": (250, 85, 185),
}
BACKGROUNDS: dict[str, RGB] = {
    "black": (0, 0, 0),
    "white": (245, 245, 245),
    "gray": (128, 128, 128),
    "navy": (15, 25, 75),
    "beige": (225, 200, 160),
}
MOTIONS = (
    "moving right", "moving left", "moving up", "moving down",
    "moving clockwise", "moving counter-clockwise",
    "growing", "shrinking", "bouncing", "standing still",
)  # fmt: skip
STYLES = ("flat", "outline", "striped", "sketch")

# Wordings that captions use; the first one is the standard.
MOTION_WORDINGS = {
    "moving right": ("moving right", "moving to the right", "going right", "sliding right"),
    "moving left": ("moving left", "moving to the left", "going left", "sliding left"),
    "moving up": ("moving up", "moving to the top", "going up", "rising"),
    "moving down": ("moving down", "moving to the bottom", "going down", "falling"),
    "moving clockwise": ("moving clockwise", "going clockwise", "circling clockwise"),
    "moving counter-clockwise": (
        "moving counter-clockwise", "going counter-clockwise", "circling counter-clockwise",
    ),
    "growing": ("growing", "getting bigger", "becoming larger"),
    "shrinking": ("shrinking", "getting smaller", "becoming smaller"),
    "bouncing": ("bouncing", "jumping", "hopping"),
    "standing still": ("standing still", "not moving", "staying still"),
}  # fmt: skip
STYLE_WORDS = ("outlined", "striped", "sketched")  # a flat fill is not mentioned

VOCABULARY: dict[str, tuple[str, ...]] = {
    "shapes": SHAPES,
    "solids": SOLIDS,
    "colors": tuple(COLORS),
    "backgrounds": tuple(BACKGROUNDS),
    "motions": MOTIONS,
    "styles": STYLE_WORDS,
}
EXAMPLES = (
    "a striped red circle moving right on a black background",
    "a full turn of a pink cube on a beige background",
)
