"""`caption`: grid images → a caption beside each, from words that are there or from a model."""

from gridctl.caption.backends import asking_of, open_describer
from gridctl.caption.check import check
from gridctl.caption.content import read_mapping
from gridctl.caption.length import text_limits
from gridctl.caption.question import Asking
from gridctl.caption.run import CaptionResult, Preview, caption

__all__ = [
    "Asking",
    "CaptionResult",
    "Preview",
    "asking_of",
    "caption",
    "check",
    "open_describer",
    "read_mapping",
    "text_limits",
]
