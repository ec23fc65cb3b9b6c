"""Whether a training run fits on a card, and which change makes it fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from gridctl.lora.adapters import add_lora
from gridctl.models.family import Family
from gridctl.models.hub import profile_family
from gridctl.models.transformer import recompute_blocks
from gridctl.profile import OPTIMIZERS, Profile

GIB = 1024**3
# Bytes of a weight: nf4 has 4 bits and a float32 scale for each 64 weights.
_STORED = {"none": 2.0, "int8": 1.0, "fp8": 1.0, "nf4": 0.5 + 4 / 64}
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
    family, settings, memory = profile_family(profile), profile.train, profile.memory
    share = memory.checkpointed_share if memory.gradient_checkpointing else 0.0
    segments = _segments(family, config, share)
    transformer = _small_model(family, config, segments)
    weights = _Weights.of(family.blocks(transformer), transformer, segments)
    stored = _STORED[memory.quantize] * weights.linear + 2 * weights.other
    alpha = settings.lora_alpha or settings.rank
    add_lora(transformer, family.LORA_TARGETS, rank=settings.rank, alpha=alpha, seed=0, fused=fused)
    trained = _Weights.of(family.blocks(transformer), transformer, segments).trained
    gradients = 4 * trained
    width, height = profile.grid.to_grid().size("token")
    inputs = family.inputs(
        config,
        batch=settings.batch_size,
        height=height,
        width=width,
        text_tokens=profile.model.text_tokens or family.SIZES.text_tokens,
        device="meta",
        dtype=torch.bfloat16,
    )
    held, working = _step_bytes(
        family, transformer, segments, inputs, offload=memory.offload_activations
    )
    if settings.accumulate > 1:  # gradients of the passes before are there from the start
        needed = held + working + gradients
    else:  # gradients take the place of freed activations
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
    """GiB on the card while the text encoders encode captions."""
    sizes = profile_family(profile).SIZES
    weights = _STORED[profile.model.text_quantize] * sizes.text_linear + 2 * sizes.text_other
    tokens = profile.model.text_tokens or sizes.text_tokens
    captions = _CAPTIONS_AT_ONCE * sizes.caption_gib * tokens / sizes.text_tokens
    return weights / GIB + captions


@dataclass(frozen=True, kw_only=True)
class _Segment:
    """Neighbouring blocks of one kind that do, or do not, recompute their activations."""

    kind: str  # the key of the config that counts them
    recomputed: bool
    count: int

    @property
    def traced(self) -> int:
        """As many as show what one more of them needs; more need the same."""
        return min(self.count, 2)


def _segments(family: Family, config: Mapping[str, Any], share: float) -> list[_Segment]:
    counts = {kind: int(config[kind]) for kind in family.BLOCK_COUNTS}
    left = round(share * sum(counts.values()))  # to be recomputed, from the first block on
    segments = []
    for kind, count in counts.items():
        first = min(left, count)
        left -= first
        segments += [
            _Segment(kind=kind, recomputed=True, count=first),
            _Segment(kind=kind, recomputed=False, count=count - first),
        ]
    return [segment for segment in segments if segment.count]


def _small_model(family: Family, config: Mapping[str, Any], segments: Sequence[_Segment]) -> Any:
    """The transformer with two blocks of each segment, on the meta device."""
    from gridctl.machine.quiet import quiet_libraries

    quiet_libraries()  # before diffusers looks for torchao and bitsandbytes
    import diffusers

    own = {key: value for key, value in config.items() if not key.startswith("_")}
    for kind in family.BLOCK_COUNTS:
        own[kind] = sum(segment.traced for segment in segments if segment.kind == kind)
    with torch.device("meta"):
        transformer = getattr(diffusers, family.TRANSFORMER)(**own).to(torch.bfloat16)
    return transformer.requires_grad_(False).train()


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """Numbers of weights: in linear layers, others, trained, and of the largest layer."""

    linear: int
    other: int
    trained: int
    largest: int

    @classmethod
    def of(cls, blocks: Sequence[Any], transformer: Any, segments: Sequence[_Segment]) -> _Weights:
        """Count the weights of the whole transformer by one with `traced` blocks of a segment."""
        times: dict[int, float] = {}
        following = iter(blocks)
        for segment in segments:
            for _ in range(segment.traced):
                block = next(following)
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


def _step_bytes(
    family: Family,
    transformer: Any,
    segments: Sequence[_Segment],
    inputs: Mapping[str, Any],
    *,
    offload: bool,
) -> tuple[int, int]:
    """Bytes (held from the forward pass for the backward pass, at work in it at most)."""
    from gridctl.models.live_bytes import LiveBytes, fuse_attention

    blocks = family.blocks(transformer)
    recomputed = sum(s.traced for s in segments if s.recomputed)
    recompute_blocks(transformer, family, recomputed / len(blocks))
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
