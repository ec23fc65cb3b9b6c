"""What tests of generate share: loaded models, a clip of the toy world, and requests."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gridctl.generate import Request, pipeline
from gridctl.media.write import write_clip
from gridctl.profile import Profile
from tests.generate.clips import red_circle

Ask = Callable[..., Request]


@pytest.fixture(scope="session")
def loaded_models() -> Iterator[Callable[..., pipeline.Pipeline]]:
    """Each model loaded once, for all tests that ask for the same one."""
    models: dict[Any, pipeline.Pipeline] = {}
    load = pipeline.load_pipeline
    with ExitStack() as stack:

        def model(base: Any, profile: Profile, adapter: Path | None) -> pipeline.Pipeline:
            key = (base, profile.model, profile.memory, profile.generate.compile, adapter)
            if key not in models:
                models[key] = stack.enter_context(load(base, profile, adapter, ()))
            return models[key]

        yield model


@pytest.fixture(autouse=True)
def shared_models(
    loaded_models: Callable[..., pipeline.Pipeline],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Jobs draw with a model that another test may have loaded, unless it asks for `own_model`."""
    if "own_model" in request.fixturenames:
        return

    @contextmanager
    def load(base: Any, profile: Profile, adapter: Path | None, prompts: Any) -> Iterator[Any]:
        model = loaded_models(base, profile, adapter)
        model.replace_prompts(prompts)
        yield model

    monkeypatch.setattr(pipeline, "load_pipeline", load)


@pytest.fixture
def own_model() -> None:
    """The test loads its model itself."""


@pytest.fixture
def small(make_profile: Callable[..., Profile], adapter: Path) -> Callable[..., Profile]:
    """Make a profile with the small adapter, which draws 2x3 cells of 32x32, in one step."""

    def make(**values: Any) -> Profile:
        return make_profile(**{"model__adapter": str(adapter), "generate__steps": 1} | values)

    return make


@pytest.fixture
def ask(small: Callable[..., Profile], tmp_path: Path) -> Ask:
    """Make a request for prompts; the output is a folder of PNG frames."""

    def make(
        *prompts: str,
        output: str = "out",
        profile: Profile | None = None,
        fps: float | None = None,
        **more: Any,
    ) -> Any:
        profile = profile or small()
        if fps:
            profile = profile.with_values({"generate.fps": fps}, as_flags=True)
        return Request(prompts=prompts, output=tmp_path / output, profile=profile, **more)

    return make


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Ten frames at five per second, losslessly."""
    write_clip(red_circle(10), tmp_path / "clip.webp", fps=5)
    return tmp_path / "clip.webp"
