"""`generate`: prompts and pictures → clips and images.

A task (`gridctl.generate.tasks`) turns a `Request` into a `Job`, without loading a model. `draw`
carries it out.
"""

from gridctl.generate.job import Job, Output, Request
from gridctl.generate.run import GenerateResult, OutputResult, draw, draw_stream, render

__all__ = [
    "GenerateResult",
    "Job",
    "Output",
    "OutputResult",
    "Request",
    "draw",
    "draw_stream",
    "render",
]
