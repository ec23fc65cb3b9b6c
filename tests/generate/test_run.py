import gc
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from einops import rearrange
from PIL import Image
from safetensors.torch import load_file, save_file

from gridctl.diffusion.cells import split_cells
from gridctl.diffusion.flow import default_mu, schedule
from gridctl.diffusion.plan import Plan
from gridctl.diffusion.sampler import Denoiser, Sampling, sample
from gridctl.errors import InputError, UsageError
from gridctl.generate import Job, Request, draw
from gridctl.generate.job import find_adapter
from gridctl.generate.tasks import image, t2v
from gridctl.geometry import Grid
from gridctl.lora.adapters import apply_adapter, read_adapter_metadata
from gridctl.models.base import BaseModel
from gridctl.models.latents import decode_frames
from gridctl.prompt import grid_prompt

GRID = Grid(rows=2, cols=3, cell=(32, 32))
PROMPT = "a red circle moving right on a black background"

Make = Callable[..., Any]


@pytest.fixture
def profile(make_profile: Make, adapter: Path) -> Any:
    """Draws in two steps with the small adapter; its own grid is another one."""
    return make_profile(
        model__adapter=str(adapter), generate__steps=2, grid__rows=4, grid__cols=4, generate__seed=3
    )


def prepare(task: Any, prompts: list[str], output: Path, **request: Any) -> Job:
    return task(Request(prompts=tuple(prompts), output=output, **request))


def frames_of(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


@pytest.mark.parametrize("tinys_own", [False, True])
def test_a_clip_is_what_prompt_adapter_sampler_and_vae_make_of_it(
    profile: Any, base: Any, adapter: Path, tmp_path: Path, tinys_own: bool
) -> None:
    """As diffusers' pipeline samples, and with all that the profile of tiny changes of it."""
    own = {"true_cfg_scale": 2.5, "true_cfg_max_sigma": 0.8}
    own |= {"stochastic_min_sigma": 0.5, "average_max_sigma": 1.0}
    if tinys_own:
        generate = replace(profile.generate, steps=3, **own)
        profile = replace(profile, generate=generate)
    drawing = prepare(t2v, [f"  {PROMPT}\n"], tmp_path / "clip", profile=profile)
    text = grid_prompt(GRID, PROMPT)
    assert drawing.outputs[0].prompt == text
    assert drawing.steps[0].plan == Plan.generate(GRID)
    assert draw(drawing).written == (tmp_path / "clip",)

    with base.text_encoders() as encode, torch.inference_mode():
        prompt, empty = encode([text]), encode([""])
    transformer = base.load_transformer()
    apply_adapter(transformer, adapter)
    mu = default_mu(base.scheduler_config, GRID.num_tokens)
    sampling = Sampling(
        sigmas=tuple(schedule(3 if tinys_own else 2, mu)),
        guidance=1.0,
        **(own if tinys_own else {}),
    )
    latents = sample(
        Denoiser(transformer=transformer, prompt=prompt, empty=empty, sampling=sampling),
        Plan.generate(GRID),
        base.noise_source(GRID, 3),
    )
    with base.vae() as vae:
        wanted = decode_frames(vae, split_cells(latents, GRID)[0], batch=8)
    assert np.array_equal(frames_of(tmp_path / "clip"), wanted)


def test_mp4_and_gif_have_the_adapters_frames_size_and_rate(profile: Any, tmp_path: Path) -> None:
    draw(prepare(t2v, [PROMPT], tmp_path / "a.mp4", profile=profile))
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 32, 32)
        assert stream.average_rate == 12  # the packed clips', as the adapter says
        assert len(list(container.decode(stream))) == 6
    draw(prepare(t2v, [PROMPT], tmp_path / "a.gif", profile=profile, fps=4))
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"]) == (6, (32, 32), 250)
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "a.gif"}


@pytest.mark.filterwarnings("ignore:.*torch_dtype.*:FutureWarning")
def test_an_image_is_the_one_of_the_pipeline_of_diffusers(
    make_profile: Make, base: Any, tmp_path: Path
) -> None:
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
    draw(prepare(image, [prompt], tmp_path / "star.png", profile=profile))
    pipeline = FluxPipeline.from_pretrained(base.folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    noise = base.noise_source(Grid(rows=1, cols=1, cell=(64, 48)), 11)()
    theirs = pipeline(
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
    ours = np.asarray(Image.open(tmp_path / "star.png")).astype(float)
    assert ours.shape == (48, 64, 3)
    assert np.abs(ours - 255 * theirs).max() <= 1


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_an_image_in_other_formats(make_profile: Make, tmp_path: Path, suffix: str) -> None:
    profile = make_profile(generate__steps=1, generate__size="32x32")
    draw(prepare(image, ["a star"], tmp_path / f"star.{suffix}", profile=profile))
    with Image.open(tmp_path / f"star.{suffix}") as star:
        assert star.size == (32, 32)


def test_a_mean_of_steps_is_for_clips_alone(
    make_profile: Make, adapter: Path, tmp_path: Path
) -> None:
    def both(name: str, average: float) -> tuple[np.ndarray, np.ndarray]:
        profile = make_profile(
            model__adapter=str(adapter),
            generate__steps=3,
            generate__size="32x32",
            generate__stochastic_min_sigma=0.0,
            generate__average_max_sigma=average,
        )
        draw(prepare(image, ["a star"], tmp_path / f"{name}.png", profile=profile))
        draw(prepare(t2v, [PROMPT], tmp_path / name, profile=profile))
        return np.asarray(Image.open(tmp_path / f"{name}.png")), frames_of(tmp_path / name)

    (star, clip), (same_star, other_clip) = both("a", 0.0), both("b", 1.0)
    assert np.array_equal(star, same_star)
    assert not np.array_equal(clip, other_clip)


@pytest.mark.parametrize("min_sigma", [0.0, 1.0])
def test_the_seed_decides(profile: Any, tmp_path: Path, min_sigma: float) -> None:
    def frames(name: str, **settings: Any) -> np.ndarray:
        values = {"stochastic_min_sigma": min_sigma, **settings}
        generate = replace(profile.generate, **values)
        draw(
            prepare(
                t2v,
                [PROMPT],
                tmp_path / name,
                profile=replace(profile, generate=generate),
            )
        )
        return frames_of(tmp_path / name)

    first = frames("a")
    assert np.array_equal(first, frames("b"))
    assert not np.array_equal(first, frames("c", seed=4))
    assert not np.array_equal(first, frames("d", stochastic_min_sigma=1 - min_sigma))


def test_a_scale_of_nothing_is_no_adapter(
    make_profile: Make, adapter: Path, tmp_path: Path
) -> None:
    def frames(name: str, **options: Any) -> np.ndarray:
        profile = make_profile(generate__steps=2, **options)
        draw(prepare(t2v, [PROMPT], tmp_path / name, profile=profile))
        return frames_of(tmp_path / name)

    bare = frames("bare", model__adapter="none")
    off = frames("off", model__adapter=str(adapter), model__adapter_scale=0.0)
    full = frames("full", model__adapter=str(adapter))
    assert np.array_equal(bare, off)
    assert not np.array_equal(bare, full)


@pytest.mark.slow
@pytest.mark.parametrize("fast", [False, True])
def test_compiled_blocks_draw_the_same(profile: Any, tmp_path: Path, fast: bool) -> None:
    """Up to rounding, with the adapter's layers in the blocks, and where blocks are skipped."""

    def frames(name: str, compiled: bool) -> np.ndarray:
        steps = 6 if fast else 2
        generate = replace(profile.generate, compile=compiled, fast=fast, steps=steps)
        own = replace(profile, generate=generate)
        draw(prepare(t2v, [PROMPT], tmp_path / name, profile=own))
        return frames_of(tmp_path / name).astype(int)

    assert np.abs(frames("plain", False) - frames("compiled", True)).max() <= 2


def test_compiling_needs_a_compiler(
    make_profile: Make, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    profile = make_profile(model__adapter=str(adapter), generate__compile=True)
    with pytest.raises(UsageError, match="needs a C"):
        draw(prepare(t2v, [PROMPT], tmp_path / "a.gif", profile=profile))


def test_many_prompts_are_files_in_order_and_seeds_of_their_own(
    profile: Any, tmp_path: Path
) -> None:
    prompts = [PROMPT, PROMPT, "Ein Bär läuft!", "漢字"]
    drawing = prepare(t2v, prompts, tmp_path / "clips", profile=profile, many=True)
    assert [output.path.name for output in drawing.outputs] == [
        "001-a-red-circle-moving-right-on-a-black-bac.mp4",
        "002-a-red-circle-moving-right-on-a-black-bac.mp4",
        "003-ein-b-r-l-uft.mp4",
        "004-clip.mp4",
    ]
    assert [output.seed for output in drawing.outputs] == [3, 4, 5, 6]
    thousand = prepare(t2v, [PROMPT] * 1000, tmp_path / "clips", profile=profile, many=True)
    assert thousand.outputs[0].path.name.startswith("0001-")


def test_finished_outputs_are_skipped_and_the_rest_is_drawn_as_it_would_have_been(
    profile: Any, tmp_path: Path
) -> None:
    drawing = prepare(t2v, [PROMPT, "a star"], tmp_path / "clips", profile=profile, many=True)
    first, second = draw(drawing).written
    before = second.read_bytes()
    second.unlink()
    again = draw(drawing)
    assert (again.written, again.skipped) == ((second,), (first,))
    assert second.read_bytes() == before
    assert first.read_bytes() != before
    assert draw(drawing).skipped == (first, second)


@pytest.mark.parametrize("many", [False, True])
def test_an_output_that_was_made_otherwise_is_not_overwritten_unasked(
    profile: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    output = tmp_path / ("clips" if many else "a.gif")
    drawing = prepare(t2v, [PROMPT], output, profile=profile, many=many)
    (path,) = draw(drawing).written
    assert draw(drawing).skipped == (path,)
    other = profile.with_values({"generate.seed": 99})
    otherwise = prepare(t2v, [PROMPT], output, profile=other, many=many)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(BaseModel, "text_encoders", None)  # nothing is loaded for that
        with pytest.raises(InputError, match="--force"):
            draw(otherwise)
    assert path.read_bytes() == before
    assert draw(otherwise, force=True).written == (path,)
    assert path.read_bytes() != before
    path.write_bytes(b"precious")  # somebody else's
    with pytest.raises(InputError, match="--force"):
        draw(drawing)


def test_progress_counts_the_steps_of_all_clips(profile: Any, tmp_path: Path) -> None:
    reported: list[tuple[int, int, str]] = []
    drawing = prepare(t2v, [PROMPT, "a star"], tmp_path / "clips", profile=profile, many=True)
    draw(drawing, progress=lambda *state: reported.append(state))
    assert reported == [
        (0, 4, "loading the model"),
        *((step, 4, "sampling") for step in (1, 2, 3, 4)),
    ]


def test_the_encoders_are_gone_before_the_transformer_comes(
    profile: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    draw(prepare(t2v, [PROMPT], tmp_path / "a.gif", profile=profile))
    assert alive == [before]


def test_remarks_on_what_the_model_does_not_read(profile: Any, tmp_path: Path) -> None:
    result = draw(prepare(t2v, ["a red zebra"], tmp_path / "a.gif", profile=profile))
    assert len(result.warnings) == 1
    assert "never learned zebra" in result.warnings[0]
    long = " ".join(["red circle"] * 40) + " green"
    result = draw(prepare(t2v, [long], tmp_path / "b.gif", profile=profile))
    assert len(result.warnings) == 1
    assert "cut after 40 tokens" in result.warnings[0]
    assert result.warnings[0].endswith(" green")
    assert draw(prepare(t2v, [PROMPT], tmp_path / "c.gif", profile=profile)).warnings == ()


def test_words_that_the_adapter_learned_are_not_remarked_on(
    profile: Any, make_profile: Make, tmp_path: Path
) -> None:
    known = find_adapter(profile)
    assert known is not None
    metadata = read_adapter_metadata(known)
    assert metadata is not None
    path = tmp_path / "zebra.safetensors"
    save_file(load_file(known), path, replace(metadata, words=("zebra",)).to_header())
    taught = make_profile(model__adapter=str(path), generate__steps=1)
    drawing = prepare(t2v, ["a red Zebra"], tmp_path / "a.gif", profile=taught)
    assert draw(drawing).warnings == ()


@pytest.mark.parametrize(
    ("setting", "reported"),
    [
        ({"generate__guidance": 7.0}, "guidance 7 is outside 1 to 5"),
        ({"generate__guidance": 0.0}, "guidance 0 is outside 1 to 5"),
        ({"generate__true_cfg_scale": 6.0}, "true_cfg_scale 6 is above 4"),
    ],
)
def test_settings_that_the_base_was_not_made_for_are_remarked_on(
    make_profile: Make, tmp_path: Path, setting: dict[str, float], reported: str
) -> None:
    profile = make_profile(**{"generate__guidance": 1.0, "generate__steps": 1} | setting)
    drawing = prepare(image, [PROMPT], tmp_path / "a.png", profile=profile)
    (note,) = draw(drawing).warnings
    assert reported in note


def test_a_grid_that_contradicts_the_adapter_is_refused(profile: Any, tmp_path: Path) -> None:
    other = {"order": "serpentine"}
    with pytest.raises(UsageError, match=r"trained on 2x3 .*row-major, and .*serpentine"):
        prepare(t2v, [PROMPT], tmp_path / "a.mp4", profile=profile, insist=other)
    prepare(t2v, [PROMPT], tmp_path / "a.mp4", profile=profile, insist={"rows": 2, "cols": 3})


def test_another_base_than_the_adapters_is_refused(
    make_profile: Make, adapter: Path, base: Any, tmp_path: Path
) -> None:
    folder = shutil.copytree(base.folder, tmp_path / "model")
    profile = make_profile(model__adapter=str(adapter), model__base=str(folder))
    with pytest.raises(UsageError, match="was trained on tiny, and the base is"):
        prepare(t2v, [PROMPT], tmp_path / "a.mp4", profile=profile)


def test_a_lora_from_elsewhere_takes_grid_layout_and_rate_of_the_profile(
    make_profile: Make, adapter: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bare.safetensors"
    save_file(load_file(adapter), path)  # without the header
    profile = make_profile(
        model__adapter=str(path),
        caption__layout="{rows} by {cols}:",
        grid__rows=1,
        generate__fps=5.0,
        generate__steps=1,
    )
    drawing = prepare(t2v, [PROMPT], tmp_path / "clip", profile=profile)
    assert drawing.grid == Grid(rows=1, cols=3, cell=(32, 32))
    assert (drawing.outputs[0].prompt, drawing.fps) == (f"1 by 3: {PROMPT}", 5.0)
    draw(drawing)
    assert frames_of(tmp_path / "clip").shape == (3, 32, 32, 3)
    wish = {"cols": 2, "cell": (16, 16)}
    drawing = prepare(t2v, [PROMPT], tmp_path / "clip", profile=profile, insist=wish)
    assert drawing.grid == Grid(rows=1, cols=2, cell=(16, 16))


def test_an_adapter_of_another_shape_leaves_nothing(
    make_profile: Make, adapter: Path, tmp_path: Path
) -> None:
    path = tmp_path / "wide.safetensors"
    save_file({name: torch.zeros(9, 9) for name in load_file(adapter)}, path)
    drawing = prepare(
        t2v, [PROMPT], tmp_path / "a.mp4", profile=make_profile(model__adapter=str(path))
    )
    with pytest.raises(UsageError, match="does not fit"):
        draw(drawing)
    assert [p.name for p in tmp_path.iterdir()] == ["wide.safetensors"]


def test_which_adapter(make_profile: Make, adapter: Path) -> None:
    assert find_adapter(make_profile(model__adapter=str(adapter))) == adapter
    assert find_adapter(make_profile(model__adapter="none")) is None
    with pytest.raises(InputError, match=r"nowhere\.safetensors is not an adapter file"):
        find_adapter(make_profile(model__adapter="nowhere.safetensors"))
    with pytest.raises(UsageError, match="only with an adapter; name one with --adapter"):
        find_adapter(make_profile(model__base="black-forest-labs/FLUX.1-dev"))


def test_the_shipped_adapter_draws_its_grid(make_profile: Make, tmp_path: Path) -> None:
    """Needs weights/tiny-grid.safetensors, which ships beside the built-in base."""
    profile = make_profile(generate__steps=2)
    path = find_adapter(profile)
    assert path is not None
    assert path.name == "tiny-grid.safetensors"
    metadata = read_adapter_metadata(path)
    assert metadata is not None
    assert metadata.base == "tiny"
    drawing = prepare(t2v, [PROMPT], tmp_path / "clip", profile=profile)
    assert drawing.grid == metadata.grid
    assert draw(drawing).warnings == ()
    assert len(frames_of(tmp_path / "clip")) == metadata.grid.num_frames


@pytest.mark.parametrize("prompts", [[], [""], ["a star", " \n"]])
def test_an_empty_prompt_is_refused(profile: Any, tmp_path: Path, prompts: list[str]) -> None:
    with pytest.raises(UsageError, match="prompt is empty"):
        prepare(t2v, prompts, tmp_path / "a.mp4", profile=profile)


@pytest.mark.parametrize("fps", [0.0, -3.0, 1001.0, float("nan")])
def test_a_rate_that_cannot_be_is_refused_before_the_work(
    profile: Any, tmp_path: Path, fps: float
) -> None:
    with pytest.raises(UsageError, match="fps is"):
        prepare(t2v, [PROMPT], tmp_path / "a.mp4", profile=profile, fps=fps)


@pytest.mark.parametrize(
    ("task", "name", "many"),
    [
        (t2v, "a.avi", False),
        (image, "a.mp4", False),
        (image, "a", False),
        (t2v, "out.mp4", True),
        (image, "out.png", True),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_the_work(
    profile: Any, tmp_path: Path, task: Any, name: str, many: bool
) -> None:
    with pytest.raises(UsageError, match=name.replace(".", r"\.")):
        prepare(task, [PROMPT], tmp_path / name, profile=profile, many=many)
