"""The house as README's architecture section describes it: who may import whom, and when."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gridctl

PACKAGE = Path(gridctl.__file__).parent

FOUNDATION = {
    "errors", "formats", "progress", "geometry", "storage", "files", "text", "prompt", "profile",
    "machine",
}  # fmt: skip
# What the verbs are built from.
LIBRARY = {"media", "dataset", "engine", "diffusion", "models", "lora"}
VERBS = {"pack", "unpack", "caption", "train", "generate", "adapter", "needs"}
# room: the rooms it may import from. The root holds the version and nothing else.
ARROWS = {
    "errors": set(),
    "formats": set(),
    "progress": set(),
    "text": set(),
    "geometry": {"errors"},
    "ranges": set(),
    "storage": {"errors", "ranges"},
    "files": {"errors", "storage"},
    "prompt": {"errors", "geometry", "text"},
    "profile": {"errors", "formats", "geometry", "storage", "files", "text", "prompt"},
    "tiny.weights": set(),  # data, not the world
    "tiny.words": set(),  # the same
    "tiny.vocabulary": {"tiny.weights", "tiny.words"},
    "machine": {"errors", "files", "profile", "text", "tiny.weights"},
    "media": FOUNDATION,
    "dataset": FOUNDATION | {"media"},
    "engine": FOUNDATION,
    "diffusion": FOUNDATION,
    "lora": FOUNDATION,
    "models": FOUNDATION | {"diffusion", "lora"},
    **dict.fromkeys(VERBS, FOUNDATION | LIBRARY),
    "generate": FOUNDATION | LIBRARY | {"tiny.vocabulary"},
    "train": FOUNDATION | LIBRARY | {"tiny.vocabulary"},
    "tiny": FOUNDATION | {"media", "dataset", "tiny.weights", "tiny.words"},
    "bench": FOUNDATION | LIBRARY | {"tiny", "tiny.weights", "tiny.words"} | VERBS,
    "cli": FOUNDATION | {"media", "dataset", "engine", "bench", "tiny.words"} | VERBS,
    "__main__": {"cli", "errors"},
    "__init__": set(),
}
# Entry points of their own: they have a command line, and print.
SCRIPTS = {"tiny.dataset"}
HEAVY = {
    "torch", "diffusers", "transformers", "peft", "accelerate", "av", "PIL", "numpy", "ray",
    "fsspec", "s3fs", "aiohttp",
}  # fmt: skip


def modules() -> dict[str, Path]:
    """Dotted name within the package → file."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


MODULES = modules()


def room(module: str) -> str:
    """The room of a dotted name: `train.run` is in train, `tiny.words` in its own."""
    return max((r for r in ARROWS if f"{module}.".startswith(f"{r}.")), key=len)


def imports(source: str) -> Iterator[str]:
    """Absolute names of all that a module imports, wherever in it; each name of a `from`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they go"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wrong_arrows(module: str, source: str) -> list[str]:
    """The imports of `module` that the house does not have."""
    allowed = ARROWS[room(module)] | {room(module)}
    ours = (name for name in imports(source) if name.startswith("gridctl."))
    found = (name.removeprefix("gridctl.") for name in ours)
    return [
        name
        for name in found
        if name != "__version__"
        and room(name) not in allowed
        and not any(f"{name}.".startswith(f"{narrow}.") for narrow in allowed if "." in narrow)
    ]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    assert wrong_arrows(module, MODULES[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("media.images", "from gridctl.models.base import open_base"),
        ("models.base", "def f():\n    from gridctl.media.images import Frames"),
        ("pack", "from gridctl.unpack import unpack"),
        ("pack", "from gridctl import unpack"),
        ("train.run", "import gridctl.generate"),
        ("train.run", "from gridctl.tiny.render import render_clip"),
        ("tiny.dataset", "from gridctl.train.checkpoint import read_checkpoint"),
        ("profile.load", "from gridctl.dataset.metadata import GridMetadata"),
        ("geometry", "from gridctl.prompt import LAYOUTS"),
        ("errors", "from gridctl.geometry import Grid"),
        ("generate", "from gridctl.cli.shell import Shell"),
        ("cli.train", "from gridctl.models.base import open_base"),
    ],
)
def test_an_import_the_other_way_is_found(module: str, source: str) -> None:
    assert len(wrong_arrows(module, source)) == 1


def graph() -> dict[str, set[str]]:
    """Module → the modules of gridctl that it imports, wherever in its source."""
    found: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        ours = (
            name.removeprefix("gridctl.")
            for name in imports(path.read_text(encoding="utf-8"))
            if name.startswith("gridctl.")
        )
        found[module] = {owner for name in ours if (owner := owner_of(name)) and owner != module}
    return found


def owner_of(name: str) -> str | None:
    """The module that has a dotted name: `media.facts.GridMetadata` is in `media.facts`."""
    while name:
        for module in (name, f"{name}.__init__"):
            if module in MODULES:
                return module
        name = name.rpartition(".")[0]
    return None


def circles(arrows: dict[str, set[str]]) -> list[set[str]]:
    """The sets of modules that all import each other, directly or not."""
    reached = {module: set(ahead) for module, ahead in arrows.items()}
    for via in reached:
        for module in reached:
            if via in reached[module]:
                reached[module] |= reached[via]
    found = {
        frozenset(m for m in reached if m in reached[module] and module in reached[m])
        for module in reached
        if module in reached[module]
    }
    return [set(circle) for circle in found]


def test_no_module_imports_itself_through_others() -> None:
    assert circles(graph()) == []


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [{"a", "b", "c"}]


def test_there_is_no_room_without_a_rule() -> None:
    tops = {module.partition(".")[0] for module in MODULES}
    assert tops == {name.partition(".")[0] for name in ARROWS}


@pytest.mark.parametrize("module", [m for m in MODULES if m not in SCRIPTS])
def test_only_the_command_line_knows_typer_and_prints(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    typer = [name for name in imports(ast.unparse(tree)) if name.partition(".")[0] == "typer"]
    prints = [
        node.lineno for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "print"
    ]
    if room(module) != "cli":
        assert typer == []
        assert module == "__main__" or prints == []


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_what_it_is_and_is_one_idea(module: str) -> None:
    source = MODULES[module].read_text(encoding="utf-8")
    if source.strip():  # an empty __init__ has nothing to say
        assert ast.get_docstring(ast.parse(source))
    assert len(source.splitlines()) <= 400


HELP = """
import contextlib, io, json, sys
from gridctl.cli.app import COMMANDS, app

found = {}
for path in ["", *COMMANDS]:
    with contextlib.redirect_stdout(io.StringIO()) as page, contextlib.suppress(SystemExit):
        app([*path.split(), "--help"])
    assert "Usage" in page.getvalue(), path
    found[path] = sorted(set(json.loads(sys.argv[1])) & set(sys.modules))
print(json.dumps(found))
"""


def test_help_starts_lazily() -> None:
    command = [sys.executable, "-c", HELP, json.dumps(sorted(HEAVY))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert {"", "pack", "generate t2v", "profile show", "bench pack"} <= set(found)
    assert {page: heavy for page, heavy in found.items() if heavy} == {}


IMPORT = """
import importlib, os, sys
before = dict(os.environ), os.getcwd(), os.umask(0o022)
for name in sys.argv[1:]:
    importlib.import_module(name)
assert (dict(os.environ), os.getcwd(), os.umask(0o022)) == before
"""


def test_nothing_happens_at_import(tmp_path: Path) -> None:
    light = [
        f"gridctl.{module}"
        for module in MODULES
        if room(module)
        in FOUNDATION | {"cli", "media", "dataset", "engine", "pack", "unpack", "caption", "bench"}
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(PACKAGE.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
    }
    for name in ("XDG_CACHE_HOME", "GRIDCTL_CACHE", "HF_HOME"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, *light],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
