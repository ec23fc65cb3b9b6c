"""The bare model, without anything of gridctl around it: what its verbs are compared with."""

from __future__ import annotations

from typing import Any


def bare_step(
    transformer: Any,
    parameters: Any,
    optimizer: Any,
    inputs: dict[str, Any],
    *,
    grad: bool,
    autocast: bool = False,
) -> None:
    """Forward, backward and optimizer step, with nothing else of `gridctl train`.

    Without `grad` only the forward pass. `autocast` multiplies in bfloat16 in it.
    """
    import torch
    import torch.nn.functional as F  # noqa: N812

    device = inputs["hidden_states"].device.type
    with torch.set_grad_enabled(grad), torch.autocast(device, torch.bfloat16, enabled=autocast):
        predicted = transformer(**inputs, return_dict=False)[0]
    if grad:
        F.mse_loss(predicted.float(), torch.zeros_like(predicted, dtype=torch.float32)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()


def random_inputs(base: Any, grid: Any, text_tokens: int, batch: int) -> dict[str, Any]:
    """Random inputs of a transformer for `batch` grids and as many captions, on its device."""
    import torch

    from gridctl.models.latents import image_ids

    config = base.transformer_config
    width, height = grid.size("latent")
    random = {
        "hidden_states": (batch, grid.num_tokens, config["in_channels"]),
        "encoder_hidden_states": (batch, text_tokens, config["joint_attention_dim"]),
        "pooled_projections": (batch, config["pooled_projection_dim"]),
    }
    tensors = {
        name: torch.randn(shape, device=base.device, dtype=base.dtype)
        for name, shape in random.items()
    }
    return {
        **tensors,
        "timestep": torch.full((batch,), 0.5, device=base.device, dtype=base.dtype),
        "guidance": torch.ones(batch, device=base.device),
        "img_ids": image_ids(height=height, width=width, device=base.device),
        "txt_ids": torch.zeros(text_tokens, 3, device=base.device),
    }


def wait(device: Any) -> None:
    """Wait until the device has done what it was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def make_optimizer(name: str, parameters: Any) -> Any:
    """AdamW, or bitsandbytes' with its state in 8 bits ("adamw8bit")."""
    import torch

    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=1e-5)
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(parameters, lr=1e-5)
