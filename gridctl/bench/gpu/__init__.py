"""`gridctl bench gpu`: every memory preset on a real GPU, with a full-size random FLUX.1."""

from gridctl.bench.gpu.check import PRESETS, GpuCheck, check_gpu
from gridctl.bench.gpu.table import table_lines

__all__ = ["PRESETS", "GpuCheck", "check_gpu", "table_lines"]
