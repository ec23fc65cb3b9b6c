"""Silence libraries that warn where they are merely installed."""

from __future__ import annotations

import logging


def quiet_plugins() -> None:
    """Silence bitsandbytes and torchao, which transformers and PEFT import if they are there.

    Their errors are raised as well and reach the user.
    """
    for name in ("bitsandbytes", "torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
