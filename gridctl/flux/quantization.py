"""Quantised base models: bitsandbytes' formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gridctl.errors import UsageError

if TYPE_CHECKING:
    import torch


def quantization_config(config: Any, kind: str, dtype: torch.dtype) -> Any:
    """`kind` ("nf4" or "int8") as a `config`: diffusers and transformers have a class each.

    Raises UsageError without bitsandbytes.
    """
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        raise UsageError(
            f'memory.quantize = "{kind}" needs bitsandbytes, which is not installed; '
            "pip install 'gridctl[quant]', or set it to \"none\"."
        )
    if kind == "int8":
        return config(load_in_8bit=True)
    return config(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
