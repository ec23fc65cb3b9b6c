"""A run that does not fit is refused, with the change that makes it fit."""

import pytest

from gridctl.models.memory import FLUX_DEV, changes_that_fit, fits, least_share, training_memory
from gridctl.profile import load_profile


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
    assert not fits(training_memory(loaded, FLUX_DEV), card_gib)
    changes = changes_that_fit(loaded, FLUX_DEV, card_gib)
    assert changes is not None
    assert expected.items() <= changes.items()
    fitting = load_profile(profile, changes).profile
    assert fits(training_memory(fitting, FLUX_DEV), card_gib)


def test_some_cards_are_too_small() -> None:
    assert changes_that_fit(load_profile("flux-dev-12gb").profile, FLUX_DEV, 6.0) is None


@pytest.mark.slow  # a plan for each of some shares
def test_the_fewest_blocks_are_recomputed_that_a_card_allows() -> None:
    def share(change: dict[str, object], card_gib: float) -> float | None:
        return least_share(load_profile("flux-dev-48gb", change).profile, FLUX_DEV, card_gib)

    assert share({}, 200) == 0.0
    assert share({}, 20) is None
    found = share({}, 44)
    assert found is not None
    assert 0 < found < 1
    for tenth, fitting in ((found, True), (found - 0.1, False)):
        change = {"memory.checkpointed_share": tenth}
        plan = training_memory(load_profile("flux-dev-48gb", change).profile, FLUX_DEV)
        assert fits(plan, 44) == fitting
