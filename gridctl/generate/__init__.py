"""`generate`: prompts and pictures → clips and images.

A task (`gridctl.generate.tasks`) prepares a `Drawing`, without loading a model. `draw` carries
it out.
"""

from gridctl.generate.drawing import Drawing, Request, Shot, combine
from gridctl.generate.run import GenerateResult, Output, draw, draw_stream, render

__all__ = [
    "Drawing",
    "GenerateResult",
    "Output",
    "Request",
    "Shot",
    "combine",
    "draw",
    "draw_stream",
    "render",
]
