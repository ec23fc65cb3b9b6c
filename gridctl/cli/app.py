"""The executable: all commands by name. A command's module is imported when it is called."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from gridctl import __version__

# What each command does and an example of it. The function behind `generate t2v` is generate_t2v
# of gridctl.cli.generate. Its docstring is the rest of the help page.
COMMANDS = {
    "pack": (
        "Turn videos and folders of frames into grid images.",
        "pack videos/ --sample fps=8",
    ),
    "caption": (
        "Write a caption beside each grid image, as a .txt file.",
        'caption vidgrid/ --subject "a red ball bounces"',
    ),
    "train": (
        "Train an adapter on captioned grids. The same command resumes a run that stopped.",
        "train profile.toml --data vidgrid",
    ),
    "generate": (
        "Draw clips and images from prompts and pictures.",
        'generate t2v "a red circle moving right" -o out.mp4',
    ),
    "generate t2v": (
        "Text to video: draw a clip as one grid, or as several with --frames.",
        'generate t2v "a red circle moving right" -o out.mp4',
    ),
    "generate i2v": (
        "Image to video: draw a clip that begins with a picture.",
        'generate i2v first.png "a red circle moving right" -o out.mp4',
    ),
    "generate interpolate": (
        "Draw the frames between pictures.",
        "generate interpolate a.png b.png -o out.mp4",
    ),
    "generate multiview": (
        "Draw a full turn around an object.",
        'generate multiview front.png "a pink cube on white" -o turn.mp4',
    ),
    "generate extend": (
        "Continue a clip. Its own frames stay as they are.",
        'generate extend clip.mp4 "a red circle moving right" --frames 48 -o out.mp4',
    ),
    "generate edit": (
        "Change what a clip shows and keep its motion: an object's colour, the background, a "
        "style.",
        'generate edit clip.mp4 "a blue circle moving right" -o out.mp4',
    ),
    "generate restore": (
        "Draw a clip again from a little noise: less flicker and noise, the same content.",
        "generate restore clip.mp4 -o out.mp4",
    ),
    "generate image": (
        "Draw a single image with the base model, without an adapter.",
        'generate image "a blue star on a white background" -o star.png',
    ),
    "generate vocabulary": (
        "List the words that the built-in model knows.",
        "generate vocabulary",
    ),
    "unpack": (
        "Turn grid images back into clips or frames.",
        "unpack vidgrid/vid1.jpg -o clip.mp4",
    ),
    "adapter": (
        "Inspect and convert adapters (LoRA files).",
        "adapter show tiny-grid",
    ),
    "adapter show": (
        "Show what a LoRA file holds: rank, layers, and how it was trained.",
        "adapter show tiny-grid",
    ),
    "adapter convert": (
        "Write a LoRA under the layer names of another tool.",
        "adapter convert corgi.safetensors --to kohya",
    ),
    "bench": (
        "Measure gridctl next to other ways to do the work.",
        "bench startup",
    ),
    "bench pack": (
        "Time packing next to decoding alone, an ffmpeg loop, and PNG frames tiled with OpenCV.",
        "bench pack --clips 2 --minutes 1",
    ),
    "bench caption": (
        "Time captioning through a server that only sleeps, next to the time it sleeps.",
        "bench caption --grids 200",
    ),
    "bench train": (
        "Time a training step, the start of a run and filling the cache, next to the bare model.",
        "bench train --quick",
    ),
    "bench generate": (
        "Time the sampler next to diffusers' FluxPipeline, and a whole call next to its imports.",
        "bench generate --against wan,ltx",
    ),
    "bench memory": (
        "Plan the GPU memory of training for every combination, and measure it if there is a GPU.",
        "bench memory --presets 24gb --ranks 64,256",
    ),
    "bench gpu": (
        "Train, resume and generate with every memory preset on a full-size random FLUX.1.",
        "bench gpu -o gpu-check --seconds 440",
    ),
    "bench quality": (
        "Measure how often the model draws what toy-world prompts ask for.",
        "bench quality --count 100 -o quality",
    ),
    "bench startup": (
        "Time `gridctl --help` next to a bare Typer app with as many commands.",
        "bench startup --repeats 11",
    ),
    "profile": (
        "List, show, check and write profiles: TOML files with the settings of a project.",
        "profile list",
    ),
    "profile list": (
        "List the profiles that come with gridctl, and what this machine lacks to run them.",
        "profile list",
    ),
    "profile show": (
        "Print every setting and where it came from.",
        "profile show flux-dev-24gb",
    ),
    "profile check": (
        "List every fault in profiles and in what they extend.",
        "profile check gridctl.toml",
    ),
    "profile init": (
        "Write a profile that extends a shipped one.",
        "profile init --from flux-dev-24gb",
    ),
}


class Group(TyperGroup):
    """A group of commands. Its help page lists them without importing their modules."""

    def __init__(self, *, path: str = "", **attributes: Any) -> None:
        super().__init__(**attributes)
        self._path = path
        self.commands = {
            words.removeprefix(path).strip(): TyperCommand(words.split()[-1], help=text)
            for words, (text, _) in COMMANDS.items()
            if words.rpartition(" ")[0] == path
        }

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and load_command(f"{self._path} {name}".strip()), rest

    def get_params(self, ctx: Any) -> list[Any]:
        parameters = super().get_params(ctx)
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""  # help pages show flags without a type
        return parameters


def load_command(path: str) -> Any:
    """Typer's command behind the words of `path`, from its own module."""
    words = path.split()
    module = import_module(f"gridctl.cli.{words[0]}")
    function = getattr(module, "_".join(words), lambda: None)
    about, example = COMMANDS[path]
    example = f"Example: gridctl {example}"
    text = "\n\n".join([about, *_paragraphs(function.__doc__ or ""), example])
    single = typer.Typer(add_completion=False)
    single.command(words[-1], help=text)(function)
    command: Any = get_command(single)
    if not any(other.startswith(f"{path} ") for other in COMMANDS):
        return command
    return Group(
        path=path,
        name=path,
        help=text,
        params=command.params,
        callback=command.callback,
        invoke_without_command=bool(command.params),
        no_args_is_help=True,
    )


def _paragraphs(text: str) -> list[str]:
    """Paragraphs without line breaks, which Typer would keep: they look odd at other widths."""
    return [" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n") if part]


def _version(asked: bool) -> None:
    if asked:
        print(f"gridctl {__version__}")
        raise typer.Exit()


app = typer.Typer(
    cls=Group,
    epilog="Start with: gridctl pack videos/ --sample fps=8",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version.", metavar=""
        ),
    ] = False,
) -> None:
    """Turn videos into grid images, train FLUX.1 on them, and generate clips (GRID, arXiv
    2412.10718)."""
