"""`gridctl bench quality`: clips and pictures of the toy world, scored by its judge.

Prompts describe combinations that training never saw, in random wordings. A combination has a
motion or a turn, so a combination that single images show is still new. Everything is a function
of generate.seed.
"""

from gridctl.bench.quality.cases import PARTS, QUICK, Case, Part, draw_cases, make_cases
from gridctl.bench.quality.run import PartResults, QualityResult, bench_quality
from gridctl.bench.quality.score import Figure, Result, Score, judge_case

__all__ = [
    "PARTS",
    "QUICK",
    "Case",
    "Figure",
    "Part",
    "PartResults",
    "QualityResult",
    "Result",
    "Score",
    "bench_quality",
    "draw_cases",
    "judge_case",
    "make_cases",
]
