"""LoRA files of every naming, read as pairs of matrices per layer of diffusers' transformer.

What a file says beside its matrices (alpha, rank and alpha patterns, rank-stabilised scaling) is
applied to them. What cannot be applied is an error (DoRA, LoKr, LoHa) or counted as unused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridctl.errors import UsageError
from gridctl.lora.klein import KLEIN, LoraPair, collect_klein, find_lora_family

if TYPE_CHECKING:
    import torch
    from torch import Tensor


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


@dataclass(frozen=True, kw_only=True)
class LoraFile:
    """What a file holds; `pairs` by the module's name in diffusers' transformer."""

    family: str | None  # FLUX_1 or KLEIN; None if its layers are those of both
    pairs: dict[str, LoraPair]
    sources: dict[str, tuple[str, ...]]  # the tensors that each pair was made from
    naming: str  # diffusers, kohya, black-forest-labs or xlabs
    dtype: torch.dtype
    names: tuple[str, ...]  # of all tensors
    metadata: dict[str, str]

    def unused(self, modules: Iterable[str]) -> tuple[str, ...]:
        """The tensors that no pair of `modules` was made from."""
        used = {name for module in modules for name in self.sources[module]}
        return tuple(name for name in self.names if name not in used)


# What stands before a module's name, and what the module's two matrices are called.
_PREFIX = re.compile(
    r"^(?:base_model\.model\.)?(?:transformer\.|diffusion_model\.|model\.diffusion_model\.|"
    r"lora_unet_|lora_transformer_|unet\.)?"
)
_DOWN = (".lora_A.weight", ".lora_A.default.weight", ".lora_down.weight", ".lora.down.weight")
_UP = (".lora_B.weight", ".lora_B.default.weight", ".lora_up.weight", ".lora.up.weight")
_REFUSED = {
    "DoRA": re.compile(r"dora_scale|lora_magnitude_vector"),
    "LoKr": re.compile(r"\.lokr_"),
    "LoHa": re.compile(r"\.hada_"),
    "biases": re.compile(r"\.lora_B(\.default)?\.bias$"),
    "single-block projections of XLabs": re.compile(r"single_blocks\.\d+\.processor\.proj_lora"),
    "convolutions": re.compile(r"\.lora_mid\."),
}


def parse_lora(tensors: Mapping[str, Tensor], metadata: dict[str, str], path: Path) -> LoraFile:
    """The LoRA in a file's tensors and metadata; `path` is for messages.

    Raises UsageError if it holds no LoRA of FLUX's transformer, or one of a kind that cannot be
    applied.
    """
    tensors = dict(sorted(tensors.items()))
    for kind, pattern in _REFUSED.items():
        if found := next((name for name in tensors if pattern.search(name)), None):
            raise UsageError(
                f"{path} is a LoRA with {kind} ({found}), which gridctl cannot apply; use a plain "
                "LoRA."
            )
    xlabs = any(".processor." in name for name in tensors)
    known = _from_xlabs(tensors) if xlabs else tensors
    scaling, family = _Scaling.read(metadata, path), lora_family(known)
    if family == KLEIN:
        pairs, sources, fused = collect_klein(_scaled(known, scaling, path))
    else:
        pairs, sources, fused = _collect(known, scaling, path)
    if not pairs:
        raise UsageError(
            f"{path} holds no LoRA of FLUX's transformer (0 of {len(tensors)} tensors fit, such as "
            f"{next(iter(tensors), 'none')}); name an adapter that gridctl train has written, or "
            "another FLUX LoRA."
        )
    naming = "kohya" if any(name.startswith("lora_unet_") for name in tensors) else "diffusers"
    if fused and naming == "diffusers":
        naming = "black-forest-labs"
    return LoraFile(
        family=family,
        pairs=pairs,
        naming="xlabs" if xlabs else naming,
        dtype=next(tensor.dtype for tensor in tensors.values() if tensor.ndim == 2),
        sources=sources,
        names=tuple(known),
        metadata=metadata,
    )


def _matrices(
    tensors: Mapping[str, Tensor], path: Path
) -> Iterator[tuple[str, tuple[str, str, str], Tensor, Tensor, int]]:
    """(stem, names of its tensors, down, up, rank) of each layer with both matrices."""
    for down_name in tensors:
        ending = next((ending for ending in _DOWN if down_name.endswith(ending)), None)
        if ending is None:
            continue
        stem = down_name.removesuffix(ending)
        up_name = stem + _UP[_DOWN.index(ending)]
        if up_name not in tensors:
            continue
        down, up = _matrix(tensors[down_name]), _matrix(tensors[up_name])
        if not (down.is_floating_point() and up.is_floating_point()):
            raise UsageError(
                f"{path}: {stem} is of {down.dtype}, and LoRA matrices must be floating-point "
                "numbers; take a file that is not quantised."
            )
        if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
            raise UsageError(
                f"{path}: {stem} has matrices of {tuple(down.shape)} and {tuple(up.shape)}, which "
                "do not belong together; the file is damaged."
            )
        alpha = tensors.get(f"{stem}.alpha")
        if alpha is not None and alpha.numel() != 1:
            raise UsageError(
                f"{path}: {stem}.alpha has {alpha.numel()} values and must have one; the file is "
                "damaged."
            )
        if rank := int(down.shape[0]):
            yield stem, (down_name, up_name, f"{stem}.alpha"), down, up, rank


def lora_family(tensors: Mapping[str, Tensor]) -> str | None:
    """The family of the LoRA in a file's tensors; None if its layers are those of both."""
    return find_lora_family(_shapes(tensors))


def _shapes(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, int, int]]:
    """(name, rows, columns) of each layer's weight."""
    for down_name, down in tensors.items():
        for down_ending, up_ending in zip(_DOWN, _UP, strict=True):
            stem = down_name.removesuffix(down_ending)
            up = tensors.get(stem + up_ending)
            if stem != down_name and up is not None and up.ndim >= 2 and down.ndim >= 2:
                yield _PREFIX.sub("", stem), up.shape[0], down.shape[1]


def _scaled(
    tensors: Mapping[str, Tensor], scaling: _Scaling, path: Path
) -> Iterator[tuple[str, tuple[str, ...], LoraPair]]:
    """(name, names of its tensors, pair) of each layer, its scale folded in."""
    for stem, names, down, up, rank in _matrices(tensors, path):
        name, alpha = _PREFIX.sub("", stem), tensors.get(f"{stem}.alpha")
        scale = float(alpha) / rank if alpha is not None else scaling.of(name, rank)
        yield name, names, LoraPair(down=down, up=up if scale == 1 else up.float() * scale)


def _from_xlabs(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """XLabs' names, converted by diffusers."""
    from diffusers import FluxPipeline

    return dict(FluxPipeline.lora_state_dict(dict(tensors)))


def _collect(
    tensors: Mapping[str, Tensor], scaling: _Scaling, path: Path
) -> tuple[dict[str, LoraPair], dict[str, tuple[str, ...]], bool]:
    """(pairs by module, their tensors' names, whether a layer was named by black-forest-labs)."""
    pairs: dict[str, LoraPair] = {}
    sources: dict[str, tuple[str, ...]] = {}
    fused = False
    for stem, names, down, up, rank in _matrices(tensors, path):
        name = _PREFIX.sub("", stem)
        module, layer = find_module(name), find_layer(name)
        if layer and layer.parts == (module,):  # the same name in both
            layer = None
        if not (module or layer):
            continue
        alpha = tensors.get(f"{stem}.alpha")
        scale = float(alpha) / rank if alpha is not None else scaling.of(module or name, rank)
        pair = LoraPair(down=down, up=up if scale == 1 else up.float() * scale)
        parts = dict(_divide(pair, layer, path)) if layer else {str(module): pair}
        pairs |= parts
        sources |= dict.fromkeys(parts, names)
        fused = fused or layer is not None
    return pairs, sources, fused


def _matrix(tensor: Tensor) -> Tensor:
    """A 1x1 convolution's weight as the matrix that it is."""
    return tensor.flatten(1) if tensor.ndim == 4 and tensor.shape[2:] == (1, 1) else tensor


def _divide(pair: LoraPair, layer: Layer, path: Path) -> Iterator[tuple[str, LoraPair]]:
    """A fused layer's update as those of its parts, without the ranks that do nothing there."""
    if layer.name == FINAL_NORM:
        import torch

        shift, scale = pair.up.chunk(2)
        yield layer.parts[0], LoraPair(down=pair.down, up=torch.cat([scale, shift]))
        return
    if len(layer.parts) == 1:
        yield layer.parts[0], pair
        return
    unit, left = divmod(pair.up.shape[0], sum(layer.shares))
    if left:
        raise UsageError(
            f"{path}: {layer.name} has {pair.up.shape[0]} rows, which cannot be divided among "
            f"{', '.join(layer.parts)}; the LoRA is for another model."
        )
    rows_of_parts = pair.up.split([share * unit for share in layer.shares])
    for part, rows in zip(layer.parts, rows_of_parts, strict=True):
        active = rows.any(dim=0)
        if active.any():
            yield part, LoraPair(down=pair.down[active], up=rows[:, active])


@dataclass(frozen=True, kw_only=True)
class _Scaling:
    """The scale of layers without an alpha of their own: what PEFT's configuration says.

    diffusers and SimpleTuner write it into the file's header as `lora_adapter_metadata`.
    """

    alpha: float | None = None
    patterns: Mapping[re.Pattern[str], float]
    rank_stabilized: bool = False  # alpha / sqrt(rank) instead of alpha / rank

    @classmethod
    def read(cls, metadata: Mapping[str, str], path: Path) -> _Scaling:
        try:
            stored: Any = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        except ValueError:
            stored = {}
        config = stored if isinstance(stored, dict) else {}
        config = {name.removeprefix("transformer."): value for name, value in config.items()}
        if config.get("use_dora"):
            raise UsageError(
                f"{path} is a LoRA with DoRA (by its header), which gridctl cannot apply; use a "
                "plain LoRA."
            )
        alpha, patterns = config.get("lora_alpha"), config.get("alpha_pattern") or {}
        try:
            return cls(
                alpha=None if alpha is None else float(alpha),
                patterns={
                    re.compile(rf"(.*\.)?({pattern})$"): float(value)
                    for pattern, value in patterns.items()
                },
                rank_stabilized=bool(config.get("use_rslora")),
            )
        except (AttributeError, TypeError, ValueError, re.error) as error:
            raise UsageError(
                f"{path} has a lora_adapter_metadata in its header that cannot be read ({error}), "
                "so its strength is unknown; save it again with the tool that made it."
            ) from None

    def of(self, module: str, rank: int) -> float:
        """A layer's scale: PEFT matches a pattern with the end of the module's name."""
        alpha = self.alpha
        for pattern, value in self.patterns.items():
            if pattern.match(module):
                alpha = value
                break
        if alpha is None:
            return 1.0
        return alpha / math.sqrt(rank) if self.rank_stabilized else alpha / rank
