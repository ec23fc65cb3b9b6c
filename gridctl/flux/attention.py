"""Which of PyTorch's attention kernels the transformer uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
