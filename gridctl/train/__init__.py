"""`train`: captioned grids → a LoRA adapter."""

from gridctl.train.checkpoint import NotFiniteError, export_checkpoint
from gridctl.train.plan import RunPlan, plan_run, prepare
from gridctl.train.report import report
from gridctl.train.run import Stopped, TrainResult, train

__all__ = [
    "NotFiniteError",
    "RunPlan",
    "Stopped",
    "TrainResult",
    "export_checkpoint",
    "plan_run",
    "prepare",
    "report",
    "train",
]
