"""Adapters: LoRA weights on the transformer, in files that other tools read too.

A file holds diffusers' key names and, in its header, what `generate` needs: the grid, the
layout prompt, fps and the base model. `alpha` is folded into the weights, so that a loader
that knows nothing of it applies the right scale.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from gridctl.errors import InputError, UsageError, counted
from gridctl.files import atomic_file
from gridctl.geometry import Grid
from gridctl.lora.files import LoraFile, lora_family, parse_lora
from gridctl.lora.klein import FLUX_1, KLEIN
from gridctl.profile import BUILT_IN
from gridctl.prompt import layout_prompt

if TYPE_CHECKING:
    import torch
    from torch import Tensor


_NAME = "default"  # the only adapter name that diffusers' helpers look at
_HEADER = "gridctl"
_SCALE = "scale"  # alpha / rank, in the header of a checkpoint, whose weights lack it
_AVERAGE = "ema."  # begins the names of the moving average's weights in a checkpoint
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class AdapterMetadata:
    """What an adapter's header says; `profile` is the TOML that made it, without folders.

    `keep` names the patterns of clean cells it was trained with; without any, it was only
    trained to draw every frame. `words` are the words of its captions that the built-in base did
    not know before, `clips` is the number of grids it was trained on.
    """

    grid: Grid
    layout: str
    fps: float
    base: str
    steps: int
    profile: str
    keep: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    clips: int | None = None

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
            **({} if self.clips is None else {"clips": self.clips}),
        }
        return {_HEADER: json.dumps(facts, ensure_ascii=True)}

    @property
    def layout_prompt(self) -> str:
        """The sentence that its captions began with; empty without a layout."""
        return layout_prompt(self.grid, self.layout, fps=self.fps)

    def to_modelspec(self, title: str, family: str | None) -> dict[str, str]:
        """Entries of the Stability AI model metadata specification 1.0.1."""
        width, height = self.grid.image_size
        of_family = "flux-2-klein-4b" if family == KLEIN else "flux-1-dev"
        architecture = {BUILT_IN: "gridctl-tiny"}.get(self.base, of_family)
        return {
            "modelspec.sai_model_spec": "1.0.1",
            "modelspec.architecture": f"{architecture}/lora",
            "modelspec.implementation": "diffusers",
            "modelspec.title": title,
            "modelspec.resolution": f"{width}x{height}",
            "modelspec.description": f"Draws clips as grids: {self.grid}, {self.fps:g} fps.",
            "modelspec.usage_hint": f"Begin prompts with: {self.layout_prompt}",
        }


def read_adapter_metadata(path: Path) -> AdapterMetadata | None:
    """An adapter's facts; None for a LoRA from elsewhere. InputError if it cannot be read."""
    if not path.is_file():
        raise InputError(f"{path} is not there; name an adapter that gridctl train has written.")
    try:
        with safe_open(path, framework="numpy") as file:  # the header alone, without PyTorch
            header = file.metadata() or {}
        if _HEADER not in header:
            return None
        facts = json.loads(header[_HEADER])
        return AdapterMetadata(
            grid=Grid.from_json(facts),
            layout=facts["layout"],
            fps=facts["fps"],
            base=facts["base"],
            steps=facts["steps"],
            profile=facts["profile"],
            keep=tuple(facts.get("keep", ())),
            words=tuple(facts.get("words", ())),
            clips=facts.get("clips"),
        )
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, InputError) as error:
        raise InputError(
            f"{path} is not an adapter that can be read ({error}); it must be a safetensors file."
        ) from error


def add_lora(
    transformer: Any, targets: str, *, rank: int, alpha: float, seed: int, fused: bool = True
) -> list[torch.nn.Parameter]:
    """Put trainable LoRA layers, in float32, on the layers of `transformer` that match `targets`.

    They compute in the dtype of their input, or as PEFT's do, without `fused`. Returns their
    parameters.
    """
    import torch
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    from gridctl.lora.layers import fuse_lora

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # A starts at random, B at zero
        transformer.add_adapter(
            LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets), adapter_name=_NAME
        )
    cast_training_params(transformer, torch.float32)
    if fused:
        fuse_lora(transformer, _NAME)
    return [parameter for parameter in transformer.parameters() if parameter.requires_grad]


def lora_tensors(transformer: Any) -> dict[str, Tensor]:
    """The LoRA parameters of `transformer` by name, as they are."""
    return {n: p for n, p in transformer.named_parameters() if p.requires_grad}


def check_family(lora: LoraFile, family: str, path: Path) -> None:
    """Raise UsageError for a LoRA of another family than a base of `family`."""
    if lora.family not in (None, family):
        raise UsageError(
            f"{path} is a LoRA for {lora.family}, and the base model is a {family}; use a "
            f"{lora.family} base, or a LoRA for {family}."
        )


def check_start(path: Path, family: str, targets: str, *, rank: int) -> None:
    """Whether training at `rank` can start from a LoRA of any naming, before the base is loaded.

    Raises UsageError if it has a higher rank, weights that are not trained, or another family, and
    what `read_lora` raises.
    """
    lora = read_lora(path)
    check_family(lora, family, path)
    if unused := lora.unused(lora.pairs):
        raise UsageError(
            f"{path} holds {counted(len(unused), 'tensor')} that training cannot continue, such as "
            f"{unused[0]}; gridctl adapter convert writes a file without them."
        )
    if other := next((name for name in lora.pairs if not re.fullmatch(targets, name)), None):
        raise UsageError(
            f"{path} changes layers that are not trained, such as {other}; start from a LoRA of "
            "attention and MLP layers only."
        )
    most = max(pair.rank for pair in lora.pairs.values())
    if most > rank:
        raise UsageError(
            f"{path} is of rank {most}, and train.rank is {rank}; set train.rank to {most} or more."
        )


def start_lora(transformer: Any, path: Path, *, scale: float) -> None:
    """Put a LoRA's weights on the layers of `add_lora`, whose alpha / rank is `scale`.

    Where the file has a lower rank, the other directions keep their first weights, which change
    nothing until they are trained. Raises UsageError if its layers are others.
    """
    import torch

    parameters = {_exported_name(n): p for n, p in lora_tensors(transformer).items()}
    with torch.no_grad():
        for module, pair in read_lora(path).pairs.items():
            down = parameters.get(f"transformer.{module}.lora_A.weight")
            up = parameters.get(f"transformer.{module}.lora_B.weight")
            if (
                down is None
                or up is None
                or (down.shape[1], up.shape[0]) != (pair.down.shape[1], pair.up.shape[0])
            ):
                raise UsageError(
                    f"{path} has another layer {module} than this base; start from an adapter that "
                    "was trained on it."
                )
            down[: pair.rank] = pair.down.float()
            up[:, : pair.rank] = pair.up.float() / scale


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
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.itemsize == 1:  # PyTorch cannot compute in fp8
            tensors[name] = tensor.bfloat16()
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise InputError(
            f"{path} holds weights that are not finite numbers, so its training failed; take an "
            "earlier checkpoint, or train with a lower train.learning_rate."
        )
    return tensors


def read_lora(path: Path) -> LoraFile:
    """The LoRA in a file of any naming that `parse_lora` knows, or in a checkpoint of training.

    Raises InputError if the file cannot be read or holds numbers that are not finite, and what
    `parse_lora` raises.
    """
    read_adapter_metadata(path)  # refuses what is no safetensors file
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
    return parse_lora(load_adapter(path), metadata, path)


def _of_checkpoint(file: Any, scale: float) -> dict[str, Tensor]:
    """The moving average's weights, if there is one. The optimizer's state is not read."""
    stored = [name for name in file.keys() if ".lora_" in name and not name.startswith("optim")]  # noqa: SIM118
    average = [name for name in stored if name.startswith(_AVERAGE)]
    tensors = {name.removeprefix(_AVERAGE): file.get_tensor(name) for name in average or stored}
    return exported_tensors(tensors, scale=scale)


def checkpoint_facts(facts: AdapterMetadata, *, scale: float) -> dict[str, str]:
    """The header with which a checkpoint of `lora_tensors` can be read as an adapter."""
    return {**facts.to_header(), _SCALE: str(scale)}


def save_adapter(
    path: Path,
    tensors: Mapping[str, Tensor],
    facts: AdapterMetadata,
    *,
    scale: float,
    dtype: torch.dtype | None = None,
    force: bool = False,
) -> None:
    """Write `lora_tensors` with diffusers' names, in `dtype` (float32 if None).

    `scale` is alpha / rank. The header also has modelspec's entries, which other tools show.
    """
    exported = exported_tensors(tensors, scale=scale)
    write_adapter(path, exported, facts, dtype=dtype, force=force)


def write_adapter(
    path: Path,
    exported: Mapping[str, Tensor],
    facts: AdapterMetadata,
    *,
    dtype: torch.dtype | None = None,
    force: bool = False,
) -> None:
    """Write weights that have the names and the scale of a file, in `dtype` (theirs if None)."""
    stored = {n: t.to("cpu", dtype or t.dtype).contiguous() for n, t in exported.items()}
    modelspec = facts.to_modelspec(path.stem, lora_family(stored))
    with atomic_file(path, force=force) as temporary:
        write_tensors(temporary, stored, {**facts.to_header(), **modelspec})


def exported_tensors(tensors: Mapping[str, Tensor], *, scale: float) -> dict[str, Tensor]:
    """`lora_tensors` by the names of a file, in float32, with alpha / rank folded in."""
    return {
        _exported_name(name): tensor.detach().float() * (scale if ".lora_B." in name else 1.0)
        for name, tensor in tensors.items()
    }


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file whose bytes depend on its content alone.

    safetensors writes metadata in any order; here it is sorted.
    """
    from safetensors.torch import save_file

    save_file(dict(tensors), path, metadata=dict(metadata))
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        if "__metadata__" in header:
            header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        file.seek(8)
        file.write(text.ljust(size))


def _exported_name(name: str) -> str:
    """What diffusers calls a parameter of `lora_tensors` in a file."""
    return f"transformer.{name.replace(f'.{_NAME}.', '.')}"


@dataclass(frozen=True, kw_only=True)
class Applied:
    """How much of a LoRA file acts on the transformer; `unused` names the other tensors."""

    total: int
    unused: tuple[str, ...]

    @property
    def loaded(self) -> int:
        return self.total - len(self.unused)

    def __str__(self) -> str:
        left = ""
        if self.unused:
            shown = ", ".join(self.unused[:3])
            left = f"; not used: {shown}" + (", ..." if len(self.unused) > 3 else "")
        return f"loaded {self.loaded} of {self.total} tensors{left}"


def apply_adapter(
    transformer: Any, path: Path, *, scale: float = 1.0, fused: bool = True
) -> Applied:
    """Put a LoRA of any naming that `read_lora` knows on `transformer`, at `scale`.

    Without `fused` PEFT's own layers compute. An offloaded transformer needs them: its weights
    come to the card when a layer is called, and fused layers call none for LoRA.

    Raises UsageError if it was made for another family or shape of transformer, or what `read_lora`
    raises.
    """
    from gridctl.lora.layers import fuse_lora

    lora = read_lora(path)
    check_family(lora, KLEIN if type(transformer).__name__.startswith("Flux2") else FLUX_1, path)
    layers = {
        name: (layer.out_features, layer.in_features)  # a quantised weight has another shape
        for name, layer in transformer.named_modules()
        if hasattr(layer, "in_features")
    }
    fitting = {name: pair for name, pair in lora.pairs.items() if name in layers}
    for name, pair in fitting.items():
        rows, columns = layers[name]
        if (pair.up.shape[0], pair.down.shape[1]) != (rows, columns):
            raise UsageError(
                f"{path} does not fit the base model ({name} is {columns} -> {rows} there and "
                f"{pair.down.shape[1]} -> {pair.up.shape[0]} in the file); use the base it was "
                "trained on."
            )
    if not fitting:
        raise UsageError(
            f"{path} does not fit the base model (which has no {next(iter(lora.pairs))}); use the "
            "base it was trained on."
        )
    state = {
        f"{name}.lora_{side}.weight": matrix
        for name, pair in fitting.items()
        for side, matrix in (("A", pair.down), ("B", pair.up))
    }
    transformer.load_lora_adapter(state, prefix=None, adapter_name=_NAME)
    transformer.set_adapters(_NAME, weights=scale)
    if fused:
        fuse_lora(transformer, _NAME)
    return Applied(total=len(lora.names), unused=lora.unused(fitting))
