"""Memory presets: values of [memory] for the memory of a card.

FLUX.1's transformer has 11.9 billion weights: 23.8 GB in bfloat16, 6.7 GB in nf4. T5 adds
9.5 GB while prompts are encoded. Below 48 GB the base must therefore be quantised, and a grid of
6,144 tokens trains only with gradient checkpointing.
"""

from __future__ import annotations

from collections.abc import Mapping

_CPU: Mapping[str, object] = {
    "device": "cpu",
    "quantize": "none",
    "offload": "none",
    "gradient_checkpointing": False,
    "checkpointed_share": 1.0,
    "offload_activations": False,
    "optimizer": "adamw",
    "encode_batch": 8,
    "decode_batch": 8,
}
_GPU = {**_CPU, "device": "cuda", "gradient_checkpointing": True, "optimizer": "adamw8bit"}
_NF4 = {**_GPU, "quantize": "nf4"}

PRESETS: dict[str, dict[str, object]] = {
    "cpu": {**_CPU},
    "12gb": {**_NF4, "offload_activations": True, "encode_batch": 4, "decode_batch": 2},
    "16gb": {**_NF4, "encode_batch": 4, "decode_batch": 4},
    "24gb": {**_NF4},
    # The base fits unquantised if the text encoders leave the card before it comes.
    "48gb": {**_GPU, "encode_batch": 24, "decode_batch": 24},
    "80gb": {**_GPU, "checkpointed_share": 0.3, "encode_batch": 24, "decode_batch": 24},
}
