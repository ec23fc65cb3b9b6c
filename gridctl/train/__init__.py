"""`train`: captioned grids → a LoRA adapter."""

from gridctl.train.plan import RunPlan, plan_run
from gridctl.train.prepare import prepare
from gridctl.train.report import report
from gridctl.train.run import Stopped, TrainResult, train
from gridctl.train.state import NotFiniteError, export_checkpoint

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
