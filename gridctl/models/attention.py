"""Attention kernels, and which blocks recompute their activations in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from gridctl.errors import UsageError

_NO_KERNEL = ("No available kernel", "No viable backend")  # PyTorch's words on a GPU and a CPU


@contextmanager
def attention_kernel(kind: str, *, training: bool) -> Iterator[None]:
    """Run attention with the kernel of this name: auto, flash, cudnn, efficient or math.

    "auto" leaves the choice to PyTorch, but without cuDNN's kernel in training: on an H200 with
    PyTorch 2.11, its backward pass ended in an illegal memory access in three of four runs. Alone,
    without a model around it, it was right and twice as fast as flash attention. In sampling it is
    the fastest. A backward pass that recomputes activations must run inside, too.

    Raises UsageError if the kernel that was asked for cannot do the work.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    named = {
        "flash": SDPBackend.FLASH_ATTENTION,
        "cudnn": SDPBackend.CUDNN_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
        "math": SDPBackend.MATH,
    }
    if kind == "auto":
        kernels = [kernel for name, kernel in named.items() if name != "cudnn" or not training]
    else:
        kernels = [named[kind]]
    try:
        with sdpa_kernel(kernels):
            yield
    except RuntimeError as error:
        if not any(text in str(error) for text in _NO_KERNEL):
            raise
        raise UsageError(
            f'model.attention = "{kind}" does not work with this device and dtype; '
            'set it to "auto".'
        ) from error


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
