"""Quantised weights: bitsandbytes' formats and torchao's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gridctl.errors import UsageError

if TYPE_CHECKING:
    import torch


def transformer_quantization(kind: str, dtype: torch.dtype) -> Any:
    """The quantisation of FLUX's transformer by diffusers: "nf4", "int8" or "fp8".

    All of them train with LoRA: the weights are stored in 4 or 8 bits, products are in `dtype`.

    Raises UsageError without the library it needs.
    """
    from diffusers import BitsAndBytesConfig

    if kind == "nf4":
        return quantization_config(BitsAndBytesConfig, kind, dtype)
    _need("torchao", kind)
    from diffusers import TorchAoConfig
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    return TorchAoConfig(
        Int8WeightOnlyConfig(version=2) if kind == "int8" else Float8WeightOnlyConfig()
    )


def quantization_config(config: Any, kind: str, dtype: torch.dtype) -> Any:
    """`kind` ("nf4" or "int8") as bitsandbytes' `config`: diffusers' class or transformers'.

    Raises UsageError for another kind, or without bitsandbytes.
    """
    if kind not in ("nf4", "int8"):
        raise UsageError(
            f'quantize = "{kind}" is for FLUX\'s transformer; use "nf4" or "int8" here.'
        )
    _need("bitsandbytes", kind)
    if kind == "int8":
        return config(load_in_8bit=True)
    return config(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def _need(package: str, kind: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise UsageError(
            f'quantize = "{kind}" needs {package}, which is not installed; '
            "pip install 'gridctl[quant]', or set it to \"none\"."
        )
