"""The planner against what was measured on an NVIDIA H200 (docs/benchmarks.md)."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from gridctl.models.flux1 import TRANSFORMER_CONFIG
from gridctl.models.live_bytes import LiveBytes, fuse_attention
from gridctl.models.memory import (
    changes_that_fit,
    encoding_gib,
    fits,
    least_share,
    training_memory,
)
from gridctl.profile import load_profile

ALONE: dict[str, Any] = {"train.accumulate": 1}
PAPER = {"memory.preset": "80gb", "train.rank": 256, **ALONE}
WHOLE = {"memory.checkpointed_share": 1.0}

# Peak GiB allocated by PyTorch in training steps of a full-size random FLUX.1-dev.
MEASURED = [
    ("nf4, rank 32, inputs offloaded", "flux-dev-12gb", ALONE, 8.50),
    ("nf4, rank 64", "flux-dev-16gb", ALONE, 11.03),
    ("nf4, rank 128", "flux-dev-24gb", ALONE, 12.60),
    ("0.4 recomputed, EMA", "flux-dev-80gb", {**ALONE, "memory.checkpointed_share": 0.4}, 56.77),
    ("0.3 recomputed, EMA", "flux-dev-80gb", ALONE, 60.83),
    ("all recomputed, preset", "flux-dev-48gb", ALONE, 32.97),
    ("all recomputed", "flux-dev-48gb", {**PAPER, **WHOLE}, 32.97),
    ("half recomputed", "flux-dev-48gb", {**PAPER, "memory.checkpointed_share": 0.5}, 49.62),
    ("none recomputed", "flux-dev-48gb", {**PAPER, "memory.checkpointed_share": 0.0}, 69.15),
    ("batch 4", "flux-dev-48gb", {**PAPER, **WHOLE, "train.batch_size": 4}, 41.18),
]
# The same with PEFT's own LoRA layers, which multiply in float32.
MEASURED_BEFORE = [
    ("nf4, rank 64", {"memory.preset": "24gb", "train.rank": 64}, 12.7),
    ("nf4, rank 32", {"memory.preset": "16gb", "train.rank": 32}, 11.4),
    ("rank 64", {"memory.preset": "48gb", "train.rank": 64}, 28.6),
    ("rank 256, batch 4", {**PAPER, **WHOLE, "train.batch_size": 4, "train.ema": 0.99}, 47.8),
]


@pytest.mark.parametrize(("profile", "changes", "gib"), [m[1:] for m in MEASURED])
def test_plans_are_what_was_measured(profile: str, changes: dict[str, Any], gib: float) -> None:
    plan = training_memory(load_profile(profile, changes).profile, TRANSFORMER_CONFIG)
    assert plan.training == pytest.approx(gib, rel=0.1)


@pytest.mark.parametrize(("changes", "gib"), [m[1:] for m in MEASURED_BEFORE])
def test_plans_know_pefts_own_layers(changes: dict[str, Any], gib: float) -> None:
    profile = load_profile("flux-dev-24gb", changes).profile
    assert training_memory(profile, TRANSFORMER_CONFIG, fused=False).training == pytest.approx(
        gib, rel=0.02
    )


@pytest.mark.parametrize(("text_quantize", "gib"), [("none", 9.95), ("nf4", 5.09)])
def test_encoding_is_what_was_measured(text_quantize: str, gib: float) -> None:
    profile = load_profile("flux-dev-24gb", {"model.text_quantize": text_quantize}).profile
    assert encoding_gib(profile) == pytest.approx(gib, rel=0.1)


@pytest.mark.parametrize("name", ["12gb", "16gb", "24gb", "48gb", "80gb"])
def test_every_preset_fits_its_card(name: str) -> None:
    plan = training_memory(load_profile(f"flux-dev-{name}").profile, TRANSFORMER_CONFIG)
    assert plan.peak * 1.07 < 0.92 * int(name.removesuffix("gb"))
    assert plan.peak == max(plan.training, plan.encoding)
    assert plan.lines()[-1].startswith("encoding")


def test_a_plan_without_a_prompt_length_has_flux_s_512_tokens() -> None:
    small = {**TRANSFORMER_CONFIG, "num_layers": 1, "num_single_layers": 1}
    plans = [
        training_memory(load_profile("flux-dev-24gb", {"model.text_tokens": n}).profile, small)
        for n in (None, 512, 256)
    ]
    assert plans[0] == plans[1]
    assert plans[0].activations > plans[2].activations


@pytest.mark.parametrize(("kind", "rank"), [("int8", 128), ("nf4", 256)])
def test_24_gb_hold_other_bases_and_ranks(kind: str, rank: int) -> None:
    """So no block of the base has to wait in main memory; only bfloat16 needs a larger card."""
    changes = {"memory.quantize": kind, "train.rank": rank}
    plan = training_memory(load_profile("flux-dev-24gb", changes).profile, TRANSFORMER_CONFIG)
    assert fits(plan, 0.92 * 24)


def test_live_bytes_are_those_of_all_tensors_that_exist() -> None:
    with LiveBytes() as tracker:
        a = torch.empty(1000, device="meta")
        b = a + 1
        assert tracker.live == 8000
        c = b[10:]  # a view
        del a
        assert tracker.live == 4000
        del b, c
        assert (tracker.live, tracker.peak) == (0, 8000)


def test_attention_needs_no_matrix_of_scores() -> None:
    class Layer(torch.nn.Module):
        def set_processor(self) -> None:
            """What the attention layers of diffusers have."""

        def forward(self, q: torch.Tensor) -> torch.Tensor:
            return F.scaled_dot_product_attention(q, q, q)

    layer = Layer()
    fuse_attention(layer)
    q = torch.empty(1, 1, 1024, 8, device="meta", requires_grad=True)
    with LiveBytes() as tracker:
        layer(q).sum().backward()
    assert 1024 * 8 * 4 * 2 < tracker.peak < 1024 * 1024


# A run that does not fit is refused, with the change that makes it fit.


@pytest.mark.parametrize(
    ("profile", "card_gib", "expected"),
    [
        ("flux-dev-80gb", 44.0, {"memory.checkpointed_share": 1.0}),
        pytest.param(
            "flux-dev-48gb",
            16.0,
            {"memory.quantize": "nf4", "train.rank": 128},
            marks=pytest.mark.slow,  # a plan for each of eight changes
        ),
    ],
)
def test_the_changes_make_it_fit(
    profile: str, card_gib: float, expected: dict[str, object]
) -> None:
    loaded = load_profile(profile).profile
    assert not fits(training_memory(loaded, TRANSFORMER_CONFIG), card_gib)
    changes = changes_that_fit(loaded, TRANSFORMER_CONFIG, card_gib)
    assert changes is not None
    assert expected.items() <= changes.items()
    fitting = load_profile(profile, changes).profile
    assert fits(training_memory(fitting, TRANSFORMER_CONFIG), card_gib)


def test_some_cards_are_too_small() -> None:
    assert changes_that_fit(load_profile("flux-dev-12gb").profile, TRANSFORMER_CONFIG, 6.0) is None


@pytest.mark.slow  # a plan for each of some shares
def test_the_fewest_blocks_are_recomputed_that_a_card_allows() -> None:
    def share(change: dict[str, object], card_gib: float) -> float | None:
        profile = load_profile("flux-dev-48gb", change).profile
        return least_share(profile, TRANSFORMER_CONFIG, card_gib)

    assert share({}, 200) == 0.0
    assert share({}, 20) is None
    found = share({}, 44)
    assert found is not None
    assert 0 < found < 1
    for tenth, fitting in ((found, True), (found - 0.1, False)):
        change = {"memory.checkpointed_share": tenth}
        plan = training_memory(load_profile("flux-dev-48gb", change).profile, TRANSFORMER_CONFIG)
        assert fits(plan, 44) == fitting
