"""`adapter`: what a LoRA file holds, and the same LoRA under the names of other tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from gridctl.errors import UsageError
from gridctl.files import atomic_file
from gridctl.lora.adapters import AdapterMetadata, read_adapter_metadata, read_lora, write_tensors
from gridctl.lora.files import FINAL_NORM, Layer, layer_of
from gridctl.lora.klein import LoraPair
from gridctl.machine.hub import local_adapter

Naming = Literal["diffusers", "kohya", "comfyui"]


@dataclass(frozen=True, kw_only=True)
class AdapterReport:
    """What a LoRA file holds; `facts` is None for one from elsewhere."""

    path: Path
    naming: str
    dtype: str
    ranks: dict[int, int]  # rank → number of layers
    num_tensors: int
    unused: tuple[str, ...]
    bytes: int
    facts: AdapterMetadata | None
    metadata: dict[str, str]  # of the header, without gridctl's own entry


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A converted file; `unused` names the tensors of the source that it lacks."""

    written: Path
    layers: int
    unused: tuple[str, ...]


def describe_adapter(adapter: str) -> AdapterReport:
    """What the file `adapter`, or the built-in `tiny-grid`, holds.

    Raises InputError for a file that cannot be read, UsageError for one without a LoRA of
    FLUX's transformer, or of a kind that cannot be applied.
    """
    path = local_adapter(adapter)
    facts = read_adapter_metadata(path)
    lora = read_lora(path)
    ranks = Counter(pair.rank for pair in lora.pairs.values())
    return AdapterReport(
        path=path,
        naming=lora.naming,
        dtype=str(lora.dtype).removeprefix("torch."),
        ranks=dict(sorted(ranks.items())),
        num_tensors=len(lora.names),
        unused=lora.unused(lora.pairs),
        bytes=path.stat().st_size,
        facts=facts,
        metadata={name: text for name, text in lora.metadata.items() if name != "gridctl"},
    )


def convert_adapter(adapter: str, output: Path, to: Naming, *, force: bool = False) -> Conversion:
    """Write the LoRA in `adapter` to `output` under the names of `to`.

    `diffusers` is what `gridctl train` writes, `kohya` what sd-scripts and most web interfaces
    read, `comfyui` black-forest-labs' own names. The header's entries are kept; alpha is folded
    into the weights.

    Raises UsageError for a layer that has no name there, or an output that is the input, and
    what `describe_adapter` raises; InputError if `output` exists and `force` is not given.
    """
    path = local_adapter(adapter)
    if output.suffix != ".safetensors":
        raise UsageError(f"{output} is no name for a LoRA; end it with .safetensors.")
    if output.resolve() == path.resolve():
        raise UsageError(f"{output} is the file to convert; choose another name with -o.")
    lora = read_lora(path)
    tensors = _as_diffusers(lora.pairs) if to == "diffusers" else _as_fused(lora.pairs, to, path)
    stored = {
        name: tensor.to(lora.dtype if tensor.ndim == 2 else torch.float32).contiguous()
        for name, tensor in tensors.items()
    }
    metadata = {k: v for k, v in lora.metadata.items() if k != "lora_adapter_metadata"}
    if "modelspec.implementation" in metadata:
        own = {"diffusers": "diffusers", "kohya": "sd-scripts", "comfyui": "black-forest-labs"}
        metadata["modelspec.implementation"] = own[to]
    with atomic_file(output, force=force) as temporary:
        write_tensors(temporary, stored, metadata)
    return Conversion(written=output, layers=len(lora.pairs), unused=lora.unused(lora.pairs))


def _as_diffusers(pairs: dict[str, LoraPair]) -> dict[str, Tensor]:
    return {
        f"transformer.{module}.lora_{side}.weight": matrix
        for module, pair in pairs.items()
        for side, matrix in (("A", pair.down), ("B", pair.up))
    }


def _as_fused(pairs: dict[str, LoraPair], to: Naming, path: Path) -> dict[str, Tensor]:
    layers: dict[str, Layer] = {}
    for module in pairs:
        layer = layer_of(module)
        if layer is None:
            raise UsageError(
                f"{path}: {module} has no name in {to}'s files; keep diffusers' names."
            )
        layers[layer.name] = layer
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        pair = _join(pairs, layer)
        if to == "kohya":
            stem = f"lora_unet_{name.replace('.', '_')}"
            tensors[f"{stem}.lora_down.weight"] = pair.down
            tensors[f"{stem}.lora_up.weight"] = pair.up
            tensors[f"{stem}.alpha"] = torch.tensor(float(pair.rank))
        else:
            tensors[f"diffusion_model.{name}.lora_A.weight"] = pair.down
            tensors[f"diffusion_model.{name}.lora_B.weight"] = pair.up
    return tensors


def _join(pairs: dict[str, LoraPair], layer: Layer) -> LoraPair:
    """The updates of a layer's parts as one; a part without an update gets rows of zeros."""
    parts = [pairs.get(module) for module in layer.parts]
    found = [pair for pair in parts if pair]
    if layer.name == FINAL_NORM:
        scale, shift = found[0].up.chunk(2)
        return LoraPair(down=found[0].down, up=torch.cat([shift, scale]))
    if len(parts) == 1:
        return found[0]
    width = found[0].down.shape[1]  # the parts of a fused layer read the same input
    sizes = [width * share for share in layer.shares]
    if _same(pair.down for pair in found) and len(found) == len(parts):
        return LoraPair(down=found[0].down, up=torch.cat([pair.up for pair in found]))
    blocks = [
        pair.up if pair else torch.zeros(size, 0, dtype=found[0].up.dtype)
        for pair, size in zip(parts, sizes, strict=True)
    ]
    return LoraPair(
        down=torch.cat([pair.down for pair in found]),
        up=torch.block_diag(*[block.float() for block in blocks]).to(found[0].up.dtype),
    )


def _same(tensors: Iterable[Tensor]) -> bool:
    first, *others = tensors
    return all(torch.equal(first, other) for other in others)
