"""`caption`: writes a caption beside each grid image, from existing words or with a model."""

from gridctl.caption.check import CheckResult, Finding, check
from gridctl.caption.run import (
    CaptionResult,
    Preview,
    apply_flags,
    caption,
    open_describer,
)

__all__ = [
    "CaptionResult",
    "CheckResult",
    "Finding",
    "Preview",
    "apply_flags",
    "caption",
    "check",
    "open_describer",
]
