"""`generate`: prompts and pictures → clips and images.

A task (`gridctl.generate.tasks`) prepares a `Drawing`, without loading a model. `draw` carries
it out.
"""

from gridctl.generate.drawing import Drawing, Request, Shot, combine
from gridctl.generate.run import GenerateResult, draw, render

__all__ = ["Drawing", "GenerateResult", "Request", "Shot", "combine", "draw", "render"]
