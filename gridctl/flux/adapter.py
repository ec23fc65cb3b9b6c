"""Adapters: LoRA weights on the transformer, in files that other tools read too.

A file holds diffusers' key names and, in its header, what `generate` needs: the grid, the
layout prompt, fps and the base model. `alpha` is folded into the weights, so that a loader
that knows nothing of it applies the right scale.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from gridctl.errors import InputError, UsageError
from gridctl.files import atomic_file
from gridctl.geometry import Grid

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# The linear layers of both kinds of block, attention and MLP; not the modulations.
TARGETS = (
    r".*transformer_blocks\.\d+\.(attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)"
    r"|ff(_context)?\.net\.(0\.proj|2)|proj_mlp|proj_out)"
)
_NAME = "default"  # the only adapter name that diffusers' helpers look at
_HEADER = "gridctl"
_SCALE = "scale"  # alpha / rank, in the header of a checkpoint, whose weights lack it
_AVERAGE = "ema."  # begins the names of the moving average's weights in a checkpoint
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class AdapterFacts:
    """What an adapter's header says; `profile` is the TOML that made it, without folders.

    `keep` names the patterns of clean cells it was trained with; without any, it was only
    trained to draw every frame. `words` are the words of its captions that the built-in base did
    not know before.
    """

    grid: Grid
    layout: str
    fps: float
    base: str
    steps: int
    profile: str
    keep: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    def to_header(self) -> dict[str, str]:
        """safetensors metadata: strings by name."""
        facts = {
            "version": _VERSION,
            **self.grid.to_json(),
            "layout": self.layout,
            "fps": self.fps,
            "base": self.base,
            "steps": self.steps,
            "profile": self.profile,
            **({"keep": list(self.keep)} if self.keep else {}),
            **({"words": list(self.words)} if self.words else {}),
        }
        # A single entry: safetensors writes several in any order, and equal runs equal files.
        return {_HEADER: json.dumps(facts, ensure_ascii=True)}


def read_adapter_facts(path: Path) -> AdapterFacts | None:
    """An adapter's facts; None for a LoRA from elsewhere. InputError if it cannot be read."""
    if not path.is_file():
        raise InputError(f"{path} is not there; name an adapter that gridctl train has written.")
    try:
        with safe_open(path, framework="numpy") as file:  # the header alone, without PyTorch
            header = file.metadata() or {}
        if _HEADER not in header:
            return None
        facts = json.loads(header[_HEADER])
        return AdapterFacts(
            grid=Grid.from_json(facts),
            layout=facts["layout"],
            fps=facts["fps"],
            base=facts["base"],
            steps=facts["steps"],
            profile=facts["profile"],
            keep=tuple(facts.get("keep", ())),
            words=tuple(facts.get("words", ())),
        )
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, InputError) as error:
        raise InputError(
            f"{path} is not an adapter that can be read ({error}); it must be a safetensors file."
        ) from error


def add_lora(transformer: Any, *, rank: int, alpha: float, seed: int) -> list[torch.nn.Parameter]:
    """Put trainable LoRA layers, in float32, on `transformer`; returns their parameters."""
    import torch
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # A starts at random, B at zero
        transformer.add_adapter(
            LoraConfig(r=rank, lora_alpha=alpha, target_modules=TARGETS), adapter_name=_NAME
        )
    cast_training_params(transformer, torch.float32)
    return [parameter for parameter in transformer.parameters() if parameter.requires_grad]


def lora_tensors(transformer: Any) -> dict[str, Tensor]:
    """The LoRA parameters of `transformer` by name, as they are."""
    return {n: p for n, p in transformer.named_parameters() if p.requires_grad}


def check_start(path: Path, *, rank: int) -> None:
    """What can be known from the header alone of whether `start_lora` will take an adapter.

    Raises InputError if the file cannot be read, UsageError if it has another rank or no LoRA.
    """
    read_adapter_facts(path)  # refuses what is no safetensors file
    with safe_open(path, framework="numpy") as file:
        down = [name for name in file.keys() if ".lora_A." in name]  # noqa: SIM118, no mapping
        found = file.get_slice(down[0]).get_shape()[0] if down else None
    if found is None:
        raise UsageError(
            f"{path} has not the layers of an adapter that gridctl train has written; start from "
            "such a one."
        )
    if found != rank:
        raise UsageError(
            f"{path} is of rank {found}, and train.rank is {rank}; set train.rank to {found}."
        )


def start_lora(transformer: Any, path: Path, *, scale: float) -> None:
    """Put an adapter's weights on the layers of `add_lora`, whose alpha / rank is `scale`.

    Raises UsageError if its layers are others.
    """
    import torch

    stored = load_adapter(path)
    parameters = {_exported_name(n): p for n, p in lora_tensors(transformer).items()}
    if {n: t.shape for n, t in stored.items()} != {n: p.shape for n, p in parameters.items()}:
        raise UsageError(
            f"{path} has not the layers that are trained on this base; start from an adapter "
            "that gridctl train has written for it."
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(stored[name].float() / (scale if ".lora_B." in name else 1.0))


def load_adapter(path: Path) -> dict[str, Tensor]:
    """The weights in an adapter file, or those that a checkpoint of training would export.

    Raises InputError if they are not all finite numbers: such a file draws black or noise.
    """
    with safe_open(path, framework="pt") as file:
        header = file.metadata() or {}
        if _SCALE in header:
            tensors = _of_checkpoint(file, float(header[_SCALE]))
        else:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise InputError(
            f"{path} holds weights that are not finite numbers, so its training failed; take an "
            "earlier checkpoint, or train with a lower train.learning_rate."
        )
    return tensors


def _of_checkpoint(file: Any, scale: float) -> dict[str, Tensor]:
    """The moving average's weights, if there is one. The optimizer's state is not read."""
    stored = [name for name in file.keys() if ".lora_" in name and not name.startswith("optim")]  # noqa: SIM118
    average = [name for name in stored if name.startswith(_AVERAGE)]
    tensors = {name.removeprefix(_AVERAGE): file.get_tensor(name) for name in average or stored}
    return exported_tensors(tensors, scale=scale)


def checkpoint_facts(facts: AdapterFacts, *, scale: float) -> dict[str, str]:
    """The header with which a checkpoint of `lora_tensors` can be read as an adapter."""
    return {**facts.to_header(), _SCALE: str(scale)}


def save_adapter(
    path: Path,
    tensors: Mapping[str, Tensor],
    facts: AdapterFacts,
    *,
    scale: float,
    dtype: torch.dtype | None = None,
    force: bool = False,
) -> None:
    """Write `lora_tensors` for diffusers and ComfyUI, in `dtype` (float32 if None).

    `scale` is alpha / rank.
    """
    exported = exported_tensors(tensors, scale=scale)
    write_adapter(path, exported, facts, dtype=dtype, force=force)


def write_adapter(
    path: Path,
    exported: Mapping[str, Tensor],
    facts: AdapterFacts,
    *,
    dtype: torch.dtype | None = None,
    force: bool = False,
) -> None:
    """Write weights that have the names and the scale of a file, in `dtype` (theirs if None)."""
    from safetensors.torch import save_file

    stored = {n: t.to("cpu", dtype or t.dtype).contiguous() for n, t in exported.items()}
    with atomic_file(path, force=force) as temporary:
        save_file(stored, temporary, metadata=facts.to_header())


def exported_tensors(tensors: Mapping[str, Tensor], *, scale: float) -> dict[str, Tensor]:
    """`lora_tensors` by the names of a file, in float32, with alpha / rank folded in."""
    return {
        _exported_name(name): tensor.detach().float() * (scale if ".lora_B." in name else 1.0)
        for name, tensor in tensors.items()
    }


def _exported_name(name: str) -> str:
    """What diffusers calls a parameter of `lora_tensors` in a file."""
    return f"transformer.{name.replace(f'.{_NAME}.', '.')}"


def apply_adapter(transformer: Any, path: Path, *, scale: float = 1.0) -> None:
    """Load any FLUX LoRA that diffusers reads into `transformer`, at `scale`.

    Raises UsageError if it was made for a transformer of another shape, or holds none.
    """
    from diffusers import FluxPipeline

    try:
        state, alphas = FluxPipeline.lora_state_dict(load_adapter(path), return_alphas=True)
        FluxPipeline.load_lora_into_transformer(
            state, network_alphas=alphas, transformer=transformer, adapter_name=_NAME
        )
    except (RuntimeError, ValueError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"{path} does not fit the base model ({reason}); use the base it was trained on."
        ) from error
    if _NAME not in getattr(transformer, "peft_config", {}):  # diffusers takes it without a word
        raise UsageError(
            f"{path} does not fit the base model (no LoRA of FLUX's transformer is in it); name "
            "an adapter that gridctl train has written, or another FLUX LoRA."
        )
    transformer.set_adapters(_NAME, weights=scale)
