"""How good generation is: clips and pictures of the toy world, scored by its judge.

Prompts describe combinations that training never saw, in random wordings. A combination has a
motion or a turn, so what single images show of one is not new. Everything is a function of
generate.seed.
"""

from gridctl.bench.quality.cases import PARTS, QUICK, Case, Part, make_cases
from gridctl.bench.quality.measures import Figure
from gridctl.bench.quality.run import QualityBench, bench_quality, quality_report
from gridctl.bench.quality.score import Score, Take, judge_take
from gridctl.bench.quality.takes import Takes

__all__ = [
    "PARTS",
    "QUICK",
    "Case",
    "Figure",
    "Part",
    "QualityBench",
    "Score",
    "Take",
    "Takes",
    "bench_quality",
    "judge_take",
    "make_cases",
    "quality_report",
]
