"""Names of FLUX.1's layers in LoRA files: diffusers', and those of black-forest-labs' own code.

Black-forest-labs' names are used by ComfyUI (`diffusion_model.double_blocks.0.img_attn.qkv`) and,
with underscores, by kohya's sd-scripts (`lora_unet_double_blocks_0_img_attn_qkv`). Their attention
is one fused layer where diffusers has three or four.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Layers of a block: black-forest-labs' name → diffusers' names, in the order of their rows.
_DOUBLE = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn.proj": ("attn.to_out.0",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "img_mod.lin": ("norm1.linear",),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn.proj": ("attn.to_add_out",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
    "txt_mod.lin": ("norm1_context.linear",),
}
_SINGLE = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation.lin": ("norm.linear",),
}
_TIME = "time_text_embed"
FINAL_NORM = "final_layer.adaLN_modulation.1"  # its two halves are the other way round in diffusers
_OUTER: dict[str, tuple[str, ...]] = {
    "img_in": ("x_embedder",),
    "txt_in": ("context_embedder",),
    "time_in.in_layer": (f"{_TIME}.timestep_embedder.linear_1",),
    "time_in.out_layer": (f"{_TIME}.timestep_embedder.linear_2",),
    "vector_in.in_layer": (f"{_TIME}.text_embedder.linear_1",),
    "vector_in.out_layer": (f"{_TIME}.text_embedder.linear_2",),
    "guidance_in.in_layer": (f"{_TIME}.guidance_embedder.linear_1",),
    "guidance_in.out_layer": (f"{_TIME}.guidance_embedder.linear_2",),
    "final_layer.linear": ("proj_out",),
    FINAL_NORM: ("norm_out.linear",),
}
MLP_RATIO = 4  # of FLUX.1's blocks: the MLP is so many times as wide


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of black-forest-labs' code; `parts` are diffusers' names, in row order."""

    name: str
    parts: tuple[str, ...]

    @property
    def shares(self) -> tuple[int, ...]:
        """How the rows are divided among the parts, in units of the model's width."""
        return (1, 1, 1, MLP_RATIO)[: len(self.parts)]


def find_layer(name: str) -> Layer | None:
    """The layer with that name in black-forest-labs' code, with dots or underscores."""
    found = re.fullmatch(r"(double|single)_blocks[._](\d+)[._](.+)", name)
    if found is None:
        own = _find(name, _OUTER)
        return Layer(name=own, parts=_OUTER[own]) if own else None
    kind, number, inner = found.groups()
    table = _SINGLE if kind == "single" else _DOUBLE
    own = _find(inner, table)
    if own is None:
        return None
    block = f"{'single_' if kind == 'single' else ''}transformer_blocks.{number}"
    parts = tuple(f"{block}.{part}" for part in table[own])
    return Layer(name=f"{kind}_blocks.{number}.{own}", parts=parts)


def layer_of(module: str) -> Layer | None:
    """The layer that holds a module of diffusers' transformer."""
    blocks, inner = _split(module)
    table = _table(blocks)
    own = next((own for own, parts in table.items() if inner in parts), None)
    if own is None:
        return None
    ours = blocks.replace("single_transformer", "single").replace("transformer", "double")
    return find_layer(f"{ours}{own}")


def find_module(name: str) -> str | None:
    """The module of diffusers' transformer with that name, with dots or underscores."""
    blocks, inner = _split(name)
    modules = [part for parts in _table(blocks).values() for part in parts]
    found = next((m for m in modules if inner in (m, m.replace(".", "_"))), None)
    return found and f"{blocks}{found}"


def _split(name: str) -> tuple[str, str]:
    """`transformer_blocks.0.attn.to_q` → (`transformer_blocks.0.`, `attn.to_q`)."""
    found = re.fullmatch(r"((?:single_)?transformer_blocks)[._](\d+)[._](.+)", name)
    return (f"{found[1]}.{found[2]}.", found[3]) if found else ("", name)


def _table(blocks: str) -> dict[str, tuple[str, ...]]:
    if not blocks:
        return _OUTER
    return _SINGLE if blocks.startswith("single") else _DOUBLE


def _find(name: str, table: dict[str, tuple[str, ...]]) -> str | None:
    return next((own for own in table if name in (own, own.replace(".", "_"))), None)
