"""`gridctl bench gpu`: every memory preset on a real GPU, with a full-size random FLUX.1."""

from gridctl.bench.gpu.check import IN_ORDER, GpuResult, check_gpu, table_lines

__all__ = ["IN_ORDER", "GpuResult", "check_gpu", "table_lines"]
