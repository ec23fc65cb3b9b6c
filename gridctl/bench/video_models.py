"""Video models compared with gridctl: arithmetic and seconds, as diffusers runs them.

Time and arithmetic of a model do not depend on its weights, so these are random. Arithmetic is
counted at full size on PyTorch's meta device, on any machine. Seconds are measured at full size on
a GPU, and on a CPU with small models, which only shows that the command works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from gridctl.bench.harness import Table, timed
from gridctl.bench.random_base import wait
from gridctl.models.flux1 import CONFIGS


@dataclass(frozen=True, kw_only=True)
class ClipSize:
    """Frames, height and width of a clip."""

    frames: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        return self.frames * self.height * self.width

    def __str__(self) -> str:
        return f"{self.frames} x {self.width}x{self.height}"


@dataclass(frozen=True, kw_only=True)
class ForwardPass:
    """A forward pass of a part of a model: the module, its inputs, how often a clip needs it.

    `inputs` makes them with a function that takes a shape and gives a tensor.
    """

    make: Callable[[], Any]
    inputs: Callable[[Any], dict[str, Any]]
    passes: int
    method: str = "forward"


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model with its customary steps, guidance and clip size; `matched` is gridctl's clip size.

    `guided`: a step needs a second pass, for the empty prompt.
    """

    name: str
    steps: int
    guided: bool
    native: ClipSize
    matched: ClipSize
    text_tokens: int
    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    text: Mapping[str, Any]
    build: Callable[[ModelSpec, ClipSize], dict[str, ForwardPass]]

    @property
    def passes(self) -> int:
        """Transformer passes of a clip."""
        return self.steps * (2 if self.guided else 1)


def _wan(model: ModelSpec, clip: ClipSize) -> dict[str, ForwardPass]:
    from diffusers import AutoencoderKLWan, WanTransformer3DModel

    frames, height, width = 1 + (clip.frames - 1) // 4, clip.height // 8, clip.width // 8
    text = model.transformer["text_dim"]
    return {
        "transformer": ForwardPass(
            make=lambda: WanTransformer3DModel(**model.transformer),
            inputs=lambda new: {
                "hidden_states": new(1, 16, frames, height, width),
                "timestep": new(1),
                "encoder_hidden_states": new(1, model.text_tokens, text),
            },
            passes=model.passes,
        ),
        "text": _t5(model),
        "VAE": ForwardPass(
            make=lambda: AutoencoderKLWan(**model.vae),
            inputs=lambda new: {"z": new(1, 16, frames, height, width)},
            passes=1,
            method="decode",
        ),
    }


def _ltx(model: ModelSpec, clip: ClipSize) -> dict[str, ForwardPass]:
    from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel

    frames, height, width = 1 + (clip.frames - 1) // 8, clip.height // 32, clip.width // 32
    text = model.transformer["caption_channels"]
    return {
        "transformer": ForwardPass(
            make=lambda: LTXVideoTransformer3DModel(**model.transformer),
            inputs=lambda new: {
                "hidden_states": new(1, frames * height * width, 128),
                "encoder_hidden_states": new(1, model.text_tokens, text),
                "timestep": new(1),
                "encoder_attention_mask": new(1, model.text_tokens) * 0 + 1,
                "num_frames": frames,
                "height": height,
                "width": width,
            },
            passes=model.passes,
        ),
        "text": _t5(model),
        "VAE": ForwardPass(
            make=lambda: AutoencoderKLLTXVideo(**model.vae),
            inputs=lambda new: {"z": new(1, 128, frames, height, width)},
            passes=1,
            method="decode",
        ),
    }


def _flux(model: ModelSpec, clip: ClipSize) -> dict[str, ForwardPass]:
    """gridctl's own model: a grid of frames is one image, and each cell is decoded apart."""
    from diffusers import AutoencoderKL, FluxTransformer2DModel

    tokens = clip.pixels // 256
    config = model.transformer
    return {
        "transformer": ForwardPass(
            make=lambda: FluxTransformer2DModel(**config),
            inputs=lambda new: {
                "hidden_states": new(1, tokens, config["in_channels"]),
                "encoder_hidden_states": new(1, model.text_tokens, config["joint_attention_dim"]),
                "pooled_projections": new(1, config["pooled_projection_dim"]),
                "timestep": new(1),
                "guidance": new(1),
                "img_ids": new(tokens, 3),
                "txt_ids": new(model.text_tokens, 3),
            },
            passes=model.passes,
        ),
        "text": _t5(model),
        "VAE": ForwardPass(
            make=lambda: AutoencoderKL(**model.vae),
            inputs=lambda new: {"z": new(1, 16, clip.height // 8, clip.width // 8)},
            passes=clip.frames,
            method="decode",
        ),
    }


def _t5(model: ModelSpec) -> ForwardPass:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(**model.text, d_kv=64, feed_forward_proj="gated-gelu", use_cache=False)
    return ForwardPass(
        make=lambda: T5EncoderModel(config),
        inputs=lambda new: {"input_ids": new(1, model.text_tokens).long()},
        passes=2 if model.guided else 1,
    )


_MATCHED = ClipSize(
    frames=25, height=256, width=256
)  # frames of video models are a multiple of 4 or 8, and one

GRIDCTL = ModelSpec(
    name="gridctl, FLUX.1-dev",
    steps=20,
    guided=False,
    native=ClipSize(frames=24, height=256, width=256),
    matched=ClipSize(frames=24, height=256, width=256),
    text_tokens=512,
    transformer=CONFIGS["full"]["transformer"],
    vae=CONFIGS["full"]["vae"],
    text=CONFIGS["full"]["t5"],
    build=_flux,
)
VIDEO_MODELS = {
    "wan": ModelSpec(
        name="Wan 2.1 1.3B",
        steps=50,
        guided=True,
        native=ClipSize(frames=81, height=480, width=832),
        matched=_MATCHED,
        text_tokens=512,
        transformer={
            "num_attention_heads": 12,
            "attention_head_dim": 128,
            "ffn_dim": 8960,
            "num_layers": 30,
            "text_dim": 4096,
        },
        vae={},
        text=CONFIGS["full"]["t5"],  # its UMT5 has more words, which costs no arithmetic
        build=_wan,
    ),
    "ltx": ModelSpec(
        name="LTX-Video 2B",
        steps=50,
        guided=True,
        native=ClipSize(frames=161, height=512, width=704),
        matched=_MATCHED,
        text_tokens=128,
        transformer={"caption_channels": 4096},
        vae={},
        text=CONFIGS["full"]["t5"],
        build=_ltx,
    ),
}
_SMALL_NATIVE = ClipSize(frames=17, height=64, width=96)
_SMALL_MATCHED = ClipSize(frames=9, height=64, width=64)
_SMALL: dict[str, dict[str, Any]] = {
    GRIDCTL.name: {
        "transformer": CONFIGS["small"]["transformer"],
        "vae": CONFIGS["small"]["vae"],
        "native": ClipSize(frames=6, height=64, width=64),
        "matched": ClipSize(frames=6, height=64, width=64),
    },
    VIDEO_MODELS["wan"].name: {
        "transformer": {
            "num_attention_heads": 2,
            "attention_head_dim": 24,
            "ffn_dim": 64,
            "num_layers": 2,
            "text_dim": CONFIGS["small"]["t5"]["d_model"],
        },
        "vae": {"base_dim": 8, "num_res_blocks": 1},
        "native": _SMALL_NATIVE,
        "matched": _SMALL_MATCHED,
    },
    VIDEO_MODELS["ltx"].name: {
        "transformer": {
            "num_attention_heads": 2,
            "attention_head_dim": 32,
            "cross_attention_dim": 64,
            "num_layers": 2,
            "caption_channels": CONFIGS["small"]["t5"]["d_model"],
        },
        "vae": {
            "block_out_channels": (8, 16, 16, 16),
            "decoder_block_out_channels": (8, 16, 16, 16),
            "layers_per_block": (1, 1, 1, 1, 1),
            "decoder_layers_per_block": (1, 1, 1, 1, 1),
        },
        "native": _SMALL_NATIVE,
        "matched": _SMALL_MATCHED,
    },
}


def small(model: ModelSpec) -> ModelSpec:
    """Reduce width, depth and clip size, for a CPU."""
    values = {"text": CONFIGS["small"]["t5"], "text_tokens": 32, **_SMALL[model.name]}
    return replace(model, **values)


def count_arithmetic(names: Sequence[str], note: Callable[[str], None]) -> Table:
    """TFLOP of a clip of each model at full size, by part; nothing is loaded or computed."""
    rows = []
    first = 0.0
    for model, clip in _specs(names):
        parts = {name: flops(part) / 1e12 for name, part in model.build(model, clip).items()}
        passes = {name: part.passes for name, part in model.build(model, clip).items()}
        total = sum(parts[name] * passes[name] for name in parts)
        first = first or total
        rows.append(
            (model.name, str(clip), model.steps, passes["transformer"],
             *(_rounded(parts[name]) for name in ("transformer", "text", "VAE")),
             _rounded(total), _rounded(total / clip.frames),
             _rounded(total / clip.pixels * 1e6), _rounded(first / total))
        )  # fmt: skip
        note(f"{model.name}, {clip}: {total:.0f} TFLOP")
    return Table(
        title="arithmetic of a clip at full size",
        columns=("model", "clip", "steps", "passes", "TFLOP a pass", "text", "VAE, a pass",
                 "TFLOP a clip", "a frame", "a megapixel", "gridctl / this"),
        rows=tuple(rows),
        bar="TFLOP a clip",
        labels=2,
    )  # fmt: skip


def time_parts(
    names: Sequence[str], device: Any, *, repeats: int, note: Callable[[str], None]
) -> Table:
    """Seconds of a clip of each model on `device`, by part: at full size on a GPU, else reduced."""
    rows = []
    is_full = device.type == "cuda"
    for model, clip in _specs(names, full=is_full):
        seconds = {
            name: (part.passes, seconds_of(part, device, repeats=repeats))
            for name, part in model.build(model, clip).items()
        }
        total = sum(passes * one for passes, one in seconds.values())
        rows.append(
            (model.name, str(clip), model.passes,
             *(_rounded(seconds[name][1]) for name in ("transformer", "text", "VAE")),
             _rounded(total), _rounded(clip.frames / total),
             _rounded(clip.pixels / total / 1e6))
        )  # fmt: skip
        note(f"{model.name}, {clip}: {total:.3g} s, {clip.frames / total:.3g} frames/s, "
             f"{clip.pixels / total / 1e6:.3g} megapixels/s")  # fmt: skip
    size = "full size" if is_full else "small models and clips: only a test of this command"
    return Table(
        title=f"seconds on {device.type}, {size}",
        columns=("model", "clip", "passes", "s a pass", "text", "VAE, a pass", "s a clip",
                 "frames/s", "megapixels/s"),
        rows=tuple(rows),
        bar="s a clip",
        labels=2,
    )  # fmt: skip


def _specs(names: Sequence[str], *, full: bool = True) -> list[tuple[ModelSpec, ClipSize]]:
    models = [GRIDCTL, *(VIDEO_MODELS[name] for name in names)]
    if not full:
        models = [small(model) for model in models]
    return [
        (model, clip) for model in models for clip in dict.fromkeys((model.matched, model.native))
    ]


def flops(part: ForwardPass) -> float:
    """The floating-point operations of one pass, counted on the meta device."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), torch.no_grad():
        module = part.make().eval()
        with FlopCounterMode(display=False) as counter:
            getattr(module, part.method)(**part.inputs(torch.zeros))
    return float(counter.get_total_flops())


def seconds_of(part: ForwardPass, device: Any, *, repeats: int) -> float:
    """The median seconds of one pass on the device, after a warm-up."""
    import torch

    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32

    def new(*shape: int) -> Any:
        return torch.rand(shape, dtype=dtype)

    with torch.device(device), torch.inference_mode():
        module = part.make().eval().to(dtype)
        inputs = part.inputs(new)

        def work() -> None:
            getattr(module, part.method)(**inputs)
            wait(device)

        work()
        return median(timed(work) for _ in range(repeats))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
