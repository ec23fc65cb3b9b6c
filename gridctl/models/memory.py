"""Whether a training run fits on a card, and which change makes it fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from gridctl.lora.adapters import add_lora
from gridctl.models.attention import recompute_blocks
from gridctl.profile import OPTIMIZERS, Profile

GIB = 1024**3
# Bytes of a weight: nf4 has 4 bits and a float32 scale for each 64 weights.
_STORED = {"none": 2.0, "int8": 1.0, "fp8": 1.0, "nf4": 0.5 + 4 / 64}
# FLUX.1-dev's transformer/config.json, for plans before it is downloaded.
FLUX_DEV: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
    "axes_dims_rope": (16, 56, 56),
}
T5_WEIGHTS, CLIP_WEIGHTS = 4.762e9, 0.123e9  # FLUX.1's
# T5's embedding and the last layer of each block: transformers never quantises them.
_T5_UNQUANTISED = 32128 * 4096 + 24 * 10240 * 4096
_CAPTION_GIB = 0.05  # activations of T5 for one caption of 512 tokens
_CAPTIONS_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """GiB on the card while the transformer is trained, by part; `encoding` comes before it."""

    base: float
    lora: float
    optimizer: float
    ema: float
    activations: float  # with gradients: what a step needs at most at one time
    encoding: float
    trained: int  # parameters of the LoRA

    @property
    def training(self) -> float:
        """GiB allocated at most by a training step."""
        return self.base + self.lora + self.optimizer + self.ema + self.activations

    @property
    def peak(self) -> float:
        """GiB allocated at most in the whole run."""
        return max(self.training, self.encoding)

    def lines(self) -> list[str]:
        """One line for each part that is not 0."""
        parts = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "trained"}
        return [f"{name:<12}{gib:6.1f} GiB" for name, gib in parts.items() if gib >= 0.05]


def training_memory(
    profile: Profile, config: Mapping[str, Any], *, fused: bool = True
) -> TrainingMemory:
    """Plan a training step on a base with this transformer config, in bfloat16.

    `fused` False is for PEFT's own LoRA layers, which multiply in float32.
    """
    settings, memory = profile.train, profile.memory
    share = memory.checkpointed_share if memory.gradient_checkpointing else 0.0
    segments = _segments(config, share)
    transformer = _small_model(config, segments)
    weights = _Weights.of(transformer, segments)
    stored = _STORED[memory.quantize] * weights.linear + 2 * weights.other
    alpha = settings.lora_alpha or settings.rank
    add_lora(transformer, rank=settings.rank, alpha=alpha, seed=0, fused=fused)
    trained = _Weights.of(transformer, segments).trained
    gradients = 4 * trained
    held, working = _step_bytes(
        transformer, segments, _inputs(profile, config), offload=memory.offload_activations
    )
    if settings.accumulate > 1:  # those of the passes before are there from the start
        needed = held + working + gradients
    else:  # they come as activations go
        needed = max(held, gradients) + working
    if memory.quantize != "none":
        needed += 2 * weights.largest  # a layer's weights in bfloat16
    return TrainingMemory(
        base=stored / GIB,
        lora=4 * trained / GIB,
        optimizer=OPTIMIZERS[memory.optimizer].state_bytes * trained / GIB,
        ema=4 * trained / GIB if settings.ema else 0.0,
        activations=needed / GIB,
        encoding=encoding_gib(profile),
        trained=trained,
    )


def encoding_gib(profile: Profile) -> float:
    """GiB on the card while captions go through T5 and CLIP."""
    stored = _STORED[profile.model.text_quantize]
    quantised = T5_WEIGHTS - _T5_UNQUANTISED
    weights = stored * quantised + 2 * (_T5_UNQUANTISED + CLIP_WEIGHTS)
    tokens = profile.model.text_tokens or 512
    return weights / GIB + _CAPTIONS_AT_ONCE * _CAPTION_GIB * tokens / 512


@dataclass(frozen=True, kw_only=True)
class _Segment:
    """Neighbouring blocks of one kind that do, or do not, recompute their activations."""

    single: bool
    recomputed: bool
    count: int

    @property
    def traced(self) -> int:
        """As many as show what one more of them needs; more need the same."""
        return min(self.count, 2)


def _segments(config: Mapping[str, Any], share: float) -> list[_Segment]:
    double, single = int(config["num_layers"]), int(config["num_single_layers"])
    recomputed = round(share * (double + single))
    first = min(recomputed, double)
    counts = {
        (False, True): first,
        (False, False): double - first,
        (True, True): recomputed - first,
        (True, False): single - (recomputed - first),
    }
    return [
        _Segment(single=kind, recomputed=again, count=count)
        for (kind, again), count in counts.items()
        if count
    ]


def _small_model(config: Mapping[str, Any], segments: Sequence[_Segment]) -> Any:
    """The transformer with two blocks of each segment, on the meta device."""
    import torch

    from gridctl.machine.quiet import quiet_libraries

    quiet_libraries()  # before diffusers looks for torchao and bitsandbytes
    from diffusers import FluxTransformer2DModel

    own = {key: value for key, value in config.items() if not key.startswith("_")}
    own["num_layers"] = sum(s.traced for s in segments if not s.single)
    own["num_single_layers"] = sum(s.traced for s in segments if s.single)
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(**own).to(torch.bfloat16)
    return transformer.requires_grad_(False).train()


def _blocks(transformer: Any) -> list[Any]:
    return [*transformer.transformer_blocks, *transformer.single_transformer_blocks]


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """Numbers of weights: in linear layers, others, trained, and of the largest layer."""

    linear: int
    other: int
    trained: int
    largest: int

    @classmethod
    def of(cls, transformer: Any, segments: Sequence[_Segment]) -> _Weights:
        """Those of the whole transformer, from one with `traced` blocks of each segment."""
        import torch

        times: dict[int, float] = {}
        blocks = iter(_blocks(transformer))
        for segment in segments:
            for _ in range(segment.traced):
                block = next(blocks)
                for module in block.modules():
                    times[id(module)] = segment.count / segment.traced
        linear = other = trained = largest = 0.0
        for module in transformer.modules():
            for name, parameter in module.named_parameters(recurse=False):
                size = parameter.numel() * times.get(id(module), 1)
                if parameter.requires_grad:
                    trained += size
                elif isinstance(module, torch.nn.Linear) and name == "weight":
                    linear += size
                    largest = max(largest, parameter.numel())
                else:
                    other += size
        return cls(
            linear=round(linear), other=round(other), trained=round(trained), largest=round(largest)
        )


def _inputs(profile: Profile, config: Mapping[str, Any]) -> dict[str, Any]:
    import torch

    grid, batch = profile.grid.to_grid(), profile.train.batch_size
    text = profile.model.text_tokens or 512

    def empty(*shape: int, dtype: Any = torch.bfloat16) -> Any:
        return torch.empty(shape, dtype=dtype, device="meta")

    return {
        "hidden_states": empty(batch, grid.num_tokens, int(config["in_channels"])),
        "encoder_hidden_states": empty(batch, text, int(config["joint_attention_dim"])),
        "pooled_projections": empty(batch, int(config["pooled_projection_dim"])),
        "timestep": empty(batch),
        "guidance": empty(batch, dtype=torch.float32) if config.get("guidance_embeds") else None,
        "img_ids": empty(grid.num_tokens, 3, dtype=torch.float32),
        "txt_ids": empty(text, 3, dtype=torch.float32),
    }


def _step_bytes(
    transformer: Any, segments: Sequence[_Segment], inputs: Mapping[str, Any], *, offload: bool
) -> tuple[int, int]:
    """Bytes (held from the forward pass for the backward pass, at work in it at most)."""
    from gridctl.models.live_bytes import LiveBytes, fuse_attention

    blocks = _blocks(transformer)
    recomputed = sum(s.traced for s in segments if s.recomputed)
    recompute_blocks(transformer, recomputed / len(blocks))
    fuse_attention(transformer)
    after: list[int] = []
    tracker = LiveBytes()
    for block in blocks:
        block.register_forward_hook(lambda *_: after.append(tracker.live))
    for parameter in transformer.parameters():
        if parameter.requires_grad:
            parameter.grad = parameter.detach().clone()  # not counted: they are added by name
    with tracker:
        predicted = transformer(**inputs, return_dict=False)[0]
        forward = after[: len(blocks)]
        predicted.float().square().mean().backward()
    held, start = 0, 0
    for segment in segments:
        end = start + segment.traced
        # What the last block of the segment added is what each of them adds.
        added = forward[end - 1] - (forward[end - 2] if end > 1 else 0)
        held += 0 if offload and segment.recomputed else added * segment.count
        start = end
    return held, tracker.peak - forward[-1]


RESERVED_SHARE = 1.07  # what PyTorch's allocator takes for what is allocated: 1.03 to 1.06 measured
_RANKS = (128, 64, 32, 16)
_SHARES = 10  # of the blocks to recompute: tenths


def fits(plan: TrainingMemory, card_gib: float) -> bool:
    """Whether a plan's peak fits on a card, with what the allocator takes on top."""
    return plan.peak * RESERVED_SHARE <= card_gib


def least_share(profile: Profile, config: Mapping[str, Any], card_gib: float) -> float | None:
    """The fewest tenths of the blocks to recompute with which a run fits; None if it never does.

    Each block that keeps its activations saves the time of computing them again.
    """
    fitting = None
    low, high = 0, _SHARES  # a larger share never needs more memory
    while low <= high:
        middle = (low + high) // 2
        change = {
            "memory.gradient_checkpointing": True,
            "memory.checkpointed_share": middle / _SHARES,
        }
        if fits(training_memory(profile.with_values(change), config), card_gib):
            fitting, high = middle / _SHARES, middle - 1
        else:
            low = middle + 1
    return fitting


def changes_that_fit(
    profile: Profile, config: Mapping[str, Any], card_gib: float
) -> dict[str, object] | None:
    """The first changes, by key, with which a run that does not fit does; None if none does.

    They come one after the other, each with those before it: those that cost time only, then
    those that cost accuracy.
    """
    made: dict[str, object] = {}
    for change in _changes(profile):
        made |= change
        plan = training_memory(profile.with_values(made), config)
        if fits(plan, card_gib):
            return made
    return None


def _changes(profile: Profile) -> Iterator[dict[str, object]]:
    memory, train = profile.memory, profile.train
    if profile.model.text_quantize == "none":
        yield {"model.text_quantize": "nf4"}
    if train.batch_size > 1:
        yield {"train.batch_size": 1, "train.accumulate": train.batch_size * train.accumulate}
    if not memory.gradient_checkpointing or memory.checkpointed_share < 1:
        yield {"memory.gradient_checkpointing": True, "memory.checkpointed_share": 1.0}
    if memory.optimizer != "adamw8bit":
        yield {"memory.optimizer": "adamw8bit"}
    if not memory.offload_activations:
        yield {"memory.offload_activations": True}
    if memory.quantize != "nf4":
        yield {"memory.quantize": "nf4"}
    for rank in _RANKS:
        if rank < train.rank:
            yield {"train.rank": rank}
