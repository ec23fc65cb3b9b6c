"""`caption`: writes a caption beside each grid image, from existing words or with a model."""

from gridctl.caption.check import CheckResult, Finding, check
from gridctl.caption.run import (
    CaptionResult,
    Preview,
    caption,
    open_describer,
    refuse_unused_flags,
)

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
