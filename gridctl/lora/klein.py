"""LoRA of FLUX.2-klein, and how it is told from one of FLUX.1: by layers that one of them lacks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

FLUX_1, KLEIN = "FLUX.1", "FLUX.2-klein"
_MODULE = re.compile(  # in diffusers' blocks
    r"transformer_blocks\.\d+\.(attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)"
    r"|ff(_context)?\.linear_(in|out))"
    r"|single_transformer_blocks\.\d+\.attn\.(to_qkv_mlp_proj|to_out)"
)
_OF_KLEIN = re.compile(
    r"blocks[._]\d+[._](ff(_context)?[._]linear_(in|out)|attn[._]to_qkv_mlp_proj)"
    r"|single_transformer_blocks[._]\d+[._]attn[._]to_out"
)
_OF_FLUX_1 = re.compile(
    r"(single_)?transformer_blocks[._]\d+[._](ff(_context)?[._]net[._].+|proj_(mlp|out)|norm.+)"
    r"|single_transformer_blocks[._]\d+[._]attn[._]to_[qkv]"
)
# Of black-forest-labs' names, which both have: (name, rows / columns in FLUX.1, in klein).
_RATIOS = (
    (re.compile(r"single_blocks[._]\d+[._]linear1"), 7, 9),
    (re.compile(r"single_blocks[._]\d+[._]linear2"), 1 / 5, 1 / 4),
    (re.compile(r"double_blocks[._]\d+[._](img|txt)_mlp[._]0"), 4, 6),
    (re.compile(r"double_blocks[._]\d+[._](img|txt)_mlp[._]2"), 1 / 4, 1 / 3),
)


@dataclass(frozen=True, kw_only=True)
class LoraPair:
    """The update of one linear layer, `up @ down`; alpha is folded into `up`."""

    down: Tensor  # (rank, in)
    up: Tensor  # (out, rank)

    @property
    def rank(self) -> int:
        return int(self.down.shape[0])


def find_lora_family(shapes: Iterable[tuple[str, int, int]]) -> str | None:
    """The family of a LoRA with these layers (name, rows, columns).

    None if all of them are in the transformers of both families.
    """
    for name, rows, columns in shapes:
        if re.search(_OF_KLEIN, name):
            return KLEIN
        if re.fullmatch(_OF_FLUX_1, name):
            return FLUX_1
        for pattern, of_flux_1, of_klein in _RATIOS:
            if re.fullmatch(pattern, name):
                ratio = rows / columns
                return KLEIN if abs(ratio / of_klein - 1) < abs(ratio / of_flux_1 - 1) else FLUX_1
    return None


def collect_klein(
    layers: Iterable[tuple[str, tuple[str, ...], LoraPair]],
) -> tuple[dict[str, LoraPair], dict[str, tuple[str, ...]], bool]:
    """(Pairs by diffusers' modules, their tensors' names, whether some had other names).

    `layers` are (name without a prefix, names of its tensors, pair). diffusers converts the names.
    A layer that it does not know is left out.
    """
    pairs: dict[str, LoraPair] = {}
    sources: dict[str, tuple[str, ...]] = {}
    has_other_names = False
    for name, names, pair in layers:
        if _MODULE.fullmatch(name):
            parts = {name: pair}
        else:
            parts = _converted(name, pair)
            has_other_names = has_other_names or bool(parts)
        pairs |= parts
        sources |= dict.fromkeys(parts, names)
    return pairs, sources, has_other_names


def _converted(name: str, pair: LoraPair) -> dict[str, LoraPair]:
    """A layer under black-forest-labs' name, with dots or underscores, as diffusers' modules."""
    from diffusers.loaders import Flux2LoraLoaderMixin

    if re.match(r"(double|single)_blocks_\d", name):
        stem, down, up = f"lora_unet_{name}", "lora_down", "lora_up"
    else:
        stem, down, up = f"diffusion_model.{name}", "lora_A", "lora_B"
    own: dict[str, Tensor] = {f"{stem}.{down}.weight": pair.down, f"{stem}.{up}.weight": pair.up}
    try:
        found = Flux2LoraLoaderMixin.lora_state_dict(own)
    except ValueError:  # diffusers does not know the layer
        return {}
    modules = [key.removesuffix(".lora_A.weight") for key in found if key.endswith("A.weight")]
    return {
        module.removeprefix("transformer."): LoraPair(
            down=found[f"{module}.lora_A.weight"], up=found[f"{module}.lora_B.weight"]
        )
        for module in modules
        if found[f"{module}.lora_B.weight"].any()
    }
