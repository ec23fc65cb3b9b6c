"""Gradient checkpointing: which blocks recompute their activations in the backward pass."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any


def recompute_blocks(transformer: Any, share: float, *, offload: bool = False) -> None:
    """Let the first `share` of the blocks keep only their inputs, and recompute the rest.

    The first ones, because the backward pass comes to them last, when the activations of the
    others are already freed. With `offload` the inputs wait in main memory.
    """
    from torch.autograd.graph import save_on_cpu
    from torch.utils.checkpoint import checkpoint

    blocks = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
    chosen = {id(block) for block in blocks[: round(share * len(blocks))]}
    on_gpu = transformer.device.type == "cuda"

    def run(block: Any, *inputs: Any) -> Any:
        if id(block) not in chosen:
            return block(*inputs)
        with save_on_cpu(pin_memory=on_gpu) if offload else nullcontext():
            # No dropout in FLUX: no random state to keep.
            return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)

    if chosen:
        transformer.enable_gradient_checkpointing(run)
    else:
        transformer.disable_gradient_checkpointing()
