"""`train`: captioned grids → a LoRA adapter."""

from gridctl.train.run import TrainResult, train

__all__ = ["TrainResult", "train"]
