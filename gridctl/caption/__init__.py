"""`caption`: writes a caption beside each grid image, from existing words or with a model."""

from gridctl.caption.backends import open_describer, refuse_unused_flags
from gridctl.caption.check import CheckResult, Finding, check
from gridctl.caption.run import CaptionResult, Preview, caption

__all__ = [
    "CaptionResult",
    "CheckResult",
    "Finding",
    "Preview",
    "caption",
    "check",
    "open_describer",
    "refuse_unused_flags",
]
