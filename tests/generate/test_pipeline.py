"""Drawing with a loaded model: each grid by a twin, and the loop over the grids of a clip."""

import gc
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from einops import rearrange
from PIL import Image
from safetensors.torch import load_file, save_file

from gridctl.diffusion.cells import split_cells
from gridctl.diffusion.flow import schedule
from gridctl.diffusion.plan import Plan
from gridctl.diffusion.sampler import Sampling, sample
from gridctl.errors import UsageError
from gridctl.generate import Job, Request, draw, render, tasks
from gridctl.generate.pipeline import load_pipeline
from gridctl.geometry import Grid
from gridctl.lora.adapters import apply_adapter
from gridctl.media.images import Frames
from gridctl.models.base import BaseModel
from gridctl.models.transformer import Denoiser
from gridctl.prompt import grid_prompt
from gridctl.tiny.render import render_clip
from tests.generate.clips import BLUE, RED, SCENE, red_circle

Make = Callable[..., Any]
GRID = Grid(rows=2, cols=3, cell=(32, 32))


def frames(job: Job) -> Frames:
    ((_, drawn),) = render(job)
    return drawn


# ---- a grid is what a twin draws ----


@pytest.mark.parametrize("tinys_own", [False, True])
def test_a_clip_is_what_sampler_and_vae_make(
    small: Make, ask: Make, base: BaseModel, adapter: Path, tinys_own: bool
) -> None:
    """As diffusers' pipeline samples, and with all that the profile of tiny changes of it."""
    guidance = {"true_cfg_scale": 2.5, "true_cfg_max_sigma": 0.8} if tinys_own else {}
    own = {"stochastic_min_sigma": 0.5, "average_max_sigma": 1.0} if tinys_own else {}
    chosen = {f"generate__{key}": value for key, value in (guidance | own).items()}
    job = tasks.t2v(ask(RED, profile=small(generate__steps=3, generate__seed=3, **chosen)))
    text = grid_prompt(GRID, RED)
    assert job.outputs[0].prompt == text

    with base.text_encoders() as encode, torch.inference_mode():
        prompt, empty = encode([text]), encode([""])
    transformer = base.load_transformer()
    apply_adapter(transformer, adapter)
    model = Denoiser(
        family=base.family, transformer=transformer, prompt=prompt, empty=empty, **guidance
    )
    latents = sample(
        model,
        Plan.generate(GRID),
        base.noise_source(GRID, 3),
        Sampling(sigmas=tuple(schedule(3, base.mu(GRID.num_tokens))), **own),
    )
    with base.vae() as vae:
        wanted = vae.decode(split_cells(latents, GRID)[0], batch=8)
    assert np.array_equal(frames(job), wanted)


@pytest.mark.filterwarnings("ignore:.*torch_dtype.*:FutureWarning")
def test_an_image_is_that_of_diffusers(make_profile: Make, base: BaseModel, ask: Make) -> None:
    """With the adapter off, even if the profile names one."""
    prompt = "a blue star on a white background"
    profile = make_profile(
        model__adapter="nowhere.safetensors",
        generate__steps=3,
        generate__size="64x48",
        generate__guidance=2.0,
        generate__true_cfg_scale=1.5,
        generate__seed=11,
    )
    (ours,) = frames(tasks.image(ask(prompt, profile=profile, output="a.png")))
    theirs = FluxPipeline.from_pretrained(base.folder, torch_dtype=torch.float32)
    theirs.set_progress_bar_config(disable=True)
    noise = base.noise_source(Grid(rows=1, cols=1, cell=(64, 48)), 11)()
    wanted = theirs(
        prompt,
        width=64,
        height=48,
        num_inference_steps=3,
        guidance_scale=2.0,
        negative_prompt="",
        true_cfg_scale=1.5,
        latents=rearrange(noise, "b c h w -> b (h w) c"),
        max_sequence_length=40,
        output_type="np",
    ).images[0]
    assert ours.shape == (48, 64, 3)
    assert np.abs(ours.astype(float) - 255 * wanted).max() <= 1


def test_averaging_is_for_clips_alone(small: Make, ask: Make) -> None:
    chosen = {
        "generate__steps": 3,
        "generate__size": "32x32",
        "generate__stochastic_min_sigma": 0.0,
    }

    def both(average: float) -> tuple[Frames, Frames]:
        profile = small(generate__average_max_sigma=average, **chosen)
        star = frames(tasks.image(ask("a star", profile=profile, output="a.png")))
        return star, frames(tasks.t2v(ask(RED, profile=profile)))

    (star, clip), (same_star, other_clip) = both(0.0), both(1.0)
    assert np.array_equal(star, same_star)
    assert not np.array_equal(clip, other_clip)


@pytest.mark.parametrize("min_sigma", [0.0, 1.0])
def test_the_seed_decides(small: Make, ask: Make, min_sigma: float) -> None:
    def drawn(seed: int = 3, min_sigma: float = min_sigma) -> Frames:
        values = {"generate__stochastic_min_sigma": min_sigma, "generate__seed": seed}
        return frames(tasks.t2v(ask(RED, profile=small(generate__steps=2, **values))))

    first = drawn()
    assert np.array_equal(first, drawn())
    assert not np.array_equal(first, drawn(seed=4))
    assert not np.array_equal(first, drawn(min_sigma=1 - min_sigma))


# ---- edits ----


def still(make_profile: Make, tmp_path: Path, side: int, **values: Any) -> Job:
    """A red circle, a picture, to be edited to a blue one by the bare base, with its guidance."""
    red, blue = (f"a {color} circle on a black background" for color in ("red", "blue"))
    picture = render_clip(replace(SCENE, x=0.5, motion="standing still"), 1, (side, side))
    Image.fromarray(picture[0]).save(tmp_path / "red.png")
    own = {"grid__rows": 1, "grid__cols": 1, "grid__cell": f"{side}x{side}"}
    own |= {"model__adapter": "none", "caption__layout": "free", "generate__steps": 8}
    profile = make_profile(**own | {"generate__true_cfg_scale": 1.5} | values)
    request = Request(prompts=(blue,), output=tmp_path / "out", profile=profile)
    return tasks.edit(request, clip=tmp_path / "red.png", source_prompt=red)


def test_an_edit_goes_to_its_prompt(make_profile: Make, tmp_path: Path) -> None:
    """The red circle turns blue, in its place, and its background stays black.

    So it does whatever noise levels the profile guides sampling at: edits are always guided.
    """
    job = still(make_profile, tmp_path, 64, generate__true_cfg_max_sigma=0.5)
    before, after = job.references[0].astype(int), frames(job)[0].astype(int)
    circle = before[..., 0] > 100
    assert np.abs(after[circle].mean(0) - (30, 80, 235)).max() < 40  # blue, as words.py has it
    assert after[~circle].mean() < 20
    always = still(make_profile, tmp_path, 64, generate__true_cfg_max_sigma=1.0)
    assert np.array_equal(frames(always)[0], after)


@pytest.mark.parametrize("true_cfg_scale", [1.5, 1.0])
def test_an_edit_is_what_flow_edit_makes(
    make_profile: Make, base: BaseModel, tmp_path: Path, true_cfg_scale: float
) -> None:
    """Written out: the last 3 of 4 steps, each guidance in place of that of sampling."""
    scales = {"edit_guidance": 4.0, "edit_source_guidance": 2.0, "edit_strength": 0.75}
    values = {f"generate__{key}": value for key, value in scales.items()}
    values |= {"generate__true_cfg_scale": true_cfg_scale, "generate__true_cfg_max_sigma": 0.3}
    job = still(make_profile, tmp_path, 32, generate__steps=4, generate__seed=7, **values)
    grid = job.grid
    target, source = job.prompts
    with base.text_encoders() as encode, torch.inference_mode():
        prompts = {text: encode([text]) for text in (target, source, "")}
    transformer = base.load_transformer()

    def velocity(text: str, latents: torch.Tensor, sigma: float, scale: float) -> torch.Tensor:
        def predict(text: str, guidance: float) -> torch.Tensor:
            model = Denoiser(
                family=base.family,
                transformer=transformer,
                prompt=prompts[text],
                empty=prompts[""],
                guidance=guidance,
            )
            with torch.inference_mode():
                return model(latents, sigma)

        if true_cfg_scale == 1:
            return predict(text, scale)
        without = predict("", 1.0)
        return without + scale * (predict(text, 1.0) - without)

    noise = base.noise_source(grid, 7)
    with base.vae() as vae:
        clean = vae.encode(np.stack([job.references[0]]), batch=8)
        edited = clean.clone()
        sigmas = schedule(4, base.mu(grid.num_tokens))[1:]
        for sigma, following in pairwise(sigmas):
            noisy = (1 - sigma) * clean + sigma * noise()
            there = velocity(target, edited + noisy - clean, sigma, 4.0)
            edited = edited + (following - sigma) * (there - velocity(source, noisy, sigma, 2.0))
        wanted = vae.decode(edited, batch=8)
    assert np.abs(frames(job).astype(int) - wanted).max() <= 1
    assert np.abs(wanted.astype(int) - job.references[0]).mean() > 2  # it changes something


def test_an_edit_to_the_same_prompt_is_the_round_trip(
    small: Make, ask: Make, clip: Path, base: BaseModel
) -> None:
    """What the VAE makes of the clip, as nothing is added."""
    profile = small(generate__edit_guidance=1.0, generate__edit_source_guidance=1.0)
    job = tasks.edit(ask(RED, profile=profile), clip=clip, source_prompt=RED)
    source = np.stack(list(job.references.values()))
    with base.vae() as vae:
        wanted = vae.decode(vae.encode(source, batch=8), batch=8)
    assert wanted.shape == (6, 32, 32, 3)
    assert np.abs(frames(job).astype(int) - wanted).max() <= 2


def test_edited_frames_stay_in_later_grids(small: Make, ask: Make, clip: Path) -> None:
    """The first grid's frames are those of the same edit of these frames alone."""
    profile = small(generate__steps=2, pack__sample="windows")
    job = tasks.edit(ask(BLUE, profile=profile), clip=clip, source_prompt=RED)
    whole = frames(job)
    keys = job.steps[0]
    (output,) = job.outputs
    alone = frames(replace(job, steps=(keys,), outputs=(output,)))
    assert np.array_equal(whole[list(keys.frames)], alone[list(keys.frames)])
    rest = [frame for frame in range(10) if frame not in keys.frames]
    source = red_circle(10)
    assert np.array_equal(alone[rest], source[rest])
    assert all((whole[frame] != source[frame]).any() for frame in rest)


# ---- loading ----


def test_the_encoders_are_gone_before_the_transformer(
    own_model: None, ask: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FLUX.1's T5 takes 9.5 GB, and the transformer needs the room."""
    load = BaseModel.load_transformer
    alive: list[int] = []

    def count() -> int:
        gc.collect()
        names = [type(o).__name__ for o in gc.get_objects()]
        return len([n for n in names if n in ("T5EncoderModel", "CLIPTextModel")])

    def spy(self: BaseModel, **options: bool) -> Any:
        alive.append(count())
        return load(self, **options)

    monkeypatch.setattr(BaseModel, "load_transformer", spy)
    before = count()
    draw(tasks.t2v(ask("a prompt that no other test has")))
    assert alive == [before]


def test_only_the_prompts_at_hand_are_kept(
    loaded_models: Make, make_profile: Make, base: BaseModel
) -> None:
    """A stream may send any number. The empty one is for guidance."""
    model = loaded_models(base, make_profile(model__adapter="none"), None)
    model.replace_prompts(["a star", "a heart"])
    known = model.prompts["a star"]
    model.replace_prompts(["a star", "a cube"])
    assert set(model.prompts) == {"a star", "a cube", ""}
    assert model.prompts["a star"] is known


def test_a_scale_of_nothing_is_no_adapter(make_profile: Make, adapter: Path, ask: Make) -> None:
    def drawn(**options: Any) -> Frames:
        return frames(tasks.t2v(ask(RED, profile=make_profile(generate__steps=2, **options))))

    bare = drawn(model__adapter="none")
    off = drawn(model__adapter=str(adapter), model__adapter_scale=0.0)
    assert np.array_equal(bare, off)
    assert not np.array_equal(bare, drawn(model__adapter=str(adapter)))


@pytest.mark.slow
@pytest.mark.parametrize("fast", [False, True])
def test_compiled_blocks_draw_the_same(small: Make, ask: Make, fast: bool) -> None:
    """Up to rounding, with the adapter's layers in the blocks, and where blocks are skipped."""

    def drawn(compiled: bool) -> Frames:
        values = {"compile": compiled, "fast": fast, "steps": 6 if fast else 2}
        profile = small(**{f"generate__{key}": value for key, value in values.items()})
        return frames(tasks.t2v(ask(RED, profile=profile))).astype(int)

    assert np.abs(drawn(False) - drawn(True)).max() <= 2


def test_compiling_needs_a_compiler(
    own_model: None, small: Make, ask: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UsageError, match="needs a C"):
        draw(tasks.t2v(ask(RED, profile=small(generate__compile=True))))


def test_an_adapter_of_another_shape_leaves_nothing(
    make_profile: Make, adapter: Path, ask: Make, tmp_path: Path
) -> None:
    path = tmp_path / "wide.safetensors"
    save_file({name: torch.zeros(9, 9) for name in load_file(adapter)}, path)
    job = tasks.t2v(ask(RED, profile=make_profile(model__adapter=str(path))))
    with pytest.raises(UsageError, match="does not fit"):
        draw(job)
    assert [path.name for path in tmp_path.iterdir()] == ["wide.safetensors"]


def test_what_a_model_does_not_read_is_a_warning(
    make_profile: Make, adapter: Path, base: BaseModel, ask: Make, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(adapter), bare)  # without the header
    profile = make_profile(model__adapter=str(bare))
    job = tasks.t2v(ask(" ".join(["red circle"] * 40) + " green", profile=profile))
    with ExitStack() as stack:
        model = stack.enter_context(load_pipeline(base, profile, bare, ()))
        lora, cut = model.warnings(job)
        assert lora.startswith(f"{bare}: ")
        assert "cut after 40 tokens" in cut
        assert cut.endswith(" green")
        distilled: Any = SimpleNamespace(
            takes_guidance=False, name="schnell", text_limits=base.text_limits
        )
        *_, guidance = replace(model, base=distilled).warnings(job)
        assert guidance == "schnell reads no guidance scale, so guidance 1 changes nothing."


def test_blocks_are_skipped_only_where_steps_are_steady(
    small: Make, ask: Make, clip: Path, loaded_models: Make, base: BaseModel, adapter: Path
) -> None:
    """Fresh noise changes the first block too much, and edits draw it in each step."""
    model = loaded_models(base, small(), adapter)

    def cached(task: str = "t2v", **values: Any) -> bool:
        profile = small(**values)
        job = tasks.TASKS[task](
            ask(RED, profile=profile), **({} if task == "t2v" else {"clip": clip})
        )
        frames(job)
        return bool(model.transformer.is_cache_enabled)

    assert cached(generate__fast=True)
    assert not cached(generate__fast=True, generate__stochastic_min_sigma=0.5)
    assert cached(generate__fast=True)
    assert not cached("edit", generate__fast=True)
    assert cached(generate__fast=True)
    assert not cached()
