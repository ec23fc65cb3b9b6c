"""Silence third-party progress bars and warnings."""

from __future__ import annotations

import logging
import warnings


def quiet_plugins() -> None:
    """Silence bitsandbytes and torchao, which transformers and PEFT import if they are there.

    Their errors are raised as well and reach the user.
    """
    for name in ("bitsandbytes", "torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)


def quiet_libraries() -> None:
    """Silence them for this process; their errors are raised as well and reach the user."""
    quiet_plugins()
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # before diffusers imports more of transformers
    transformers_logging.disable_progress_bar()
    from diffusers.utils import logging as diffusers_logging
    from huggingface_hub.utils.tqdm import disable_progress_bars

    diffusers_logging.set_verbosity(logging.CRITICAL)  # it raises what it logs as an error
    diffusers_logging.disable_progress_bar()
    disable_progress_bars()
    # diffusers' norms keep float32 weights under autocast, and PyTorch warns that it is slower.
    warnings.filterwarnings("ignore", "Mismatch dtype between input and weight", UserWarning)
