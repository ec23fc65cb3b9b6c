"""Every example loads, and the values in it are its own."""

from pathlib import Path

import pytest

from gridctl.profile import load_profile

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.toml"))


def test_there_are_examples() -> None:
    assert {"tiny.toml", "flux-dev.toml", "stages.toml"} <= {path.name for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_loads(path: Path) -> None:
    loaded = load_profile(path)
    assert str(path) in loaded.origins.values()
    assert loaded.profile.train.data or loaded.profile.train.stages
    assert loaded.profile.train.output
    assert path.read_text(encoding="utf-8").startswith("# ")
