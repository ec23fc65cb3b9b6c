"""Memory presets: the knobs of [memory] by the memory of the card.

FLUX.1's transformer has 11.9 billion weights: 23.8 GB in bfloat16, 6.7 GB in nf4. T5 adds
9.5 GB while prompts are encoded. A quantised base is therefore the only way below 48 GB,
and gradient checkpointing is what lets a grid of 6,144 tokens train at all.
"""

from __future__ import annotations

PRESETS: dict[str, dict[str, object]] = {
    "cpu": {
        "device": "cpu",
        "quantize": "none",
        "offload": "none",
        "gradient_checkpointing": False,
        "optimizer": "adamw",
        "encode_batch": 8,
        "decode_batch": 8,
    },
    # Nothing but the layer at work lies on the card; slow, and for generating.
    "12gb": {
        "device": "cuda",
        "quantize": "nf4",
        "offload": "group",
        "gradient_checkpointing": True,
        "optimizer": "adamw8bit",
        "encode_batch": 1,
        "decode_batch": 1,
    },
    "16gb": {
        "device": "cuda",
        "quantize": "nf4",
        "offload": "none",
        "gradient_checkpointing": True,
        "optimizer": "adamw8bit",
        "encode_batch": 4,
        "decode_batch": 4,
    },
    "24gb": {
        "device": "cuda",
        "quantize": "nf4",
        "offload": "none",
        "gradient_checkpointing": True,
        "optimizer": "adamw8bit",
        "encode_batch": 8,
        "decode_batch": 8,
    },
    # The base fits unquantised if the text encoders leave the card before it comes.
    "48gb": {
        "device": "cuda",
        "quantize": "none",
        "offload": "none",
        "gradient_checkpointing": True,
        "optimizer": "adamw8bit",
        "encode_batch": 24,
        "decode_batch": 24,
    },
    "80gb": {
        "device": "cuda",
        "quantize": "none",
        "offload": "none",
        "gradient_checkpointing": True,
        "optimizer": "adamw8bit",
        "encode_batch": 24,
        "decode_batch": 24,
    },
}
