"""README and docs do what they print, and their links lead somewhere.

```sh and ```python blocks are run in order in one folder, ```toml blocks are loaded. ```console
blocks need a GPU, weights or the reader's own files: their first line says so, and their
commands and flags are compared with the command line.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest

from gridctl.cli.app import COMMANDS, load_command
from gridctl.dataset.folder import list_grids
from gridctl.dataset.grid_image import load_metadata
from gridctl.profile import load_profile

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
README = PAGES["README.md"]
# The README comes first: other pages use the files that its commands make.
QUICK = ["README.md", "docs/python.md"]  # the other pages are run by the slow tests
RUN = [page for page in PAGES if re.search("^```(sh|python)$", PAGES[page], re.MULTILINE)]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.MULTILINE | re.DOTALL)


# Words → Typer's command. Some groups do something by themselves: `gridctl generate --from FILE`.
NODES = {tuple(path.split()): load_command(path) for path in COMMANDS}


def run_blocks(page: str, folder: Path) -> None:
    """Run the sh and python blocks of a page in `folder`, as one user would."""
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "GRIDCTL_CACHE": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",  # nothing is downloaded
    }
    environment.pop("GRIDCTL_PROFILE", None)
    interpreters = {"sh": ["sh", "-eu", "-c"], "python": [sys.executable, "-c"]}
    pattern = r"^```(sh|python)\n(.*?)^```$"
    for language, block in re.findall(pattern, PAGES[page], re.MULTILINE | re.DOTALL):
        done = subprocess.run(
            [*interpreters[language], block],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{page}\n{block}\n{done.stdout}\n{done.stderr}"
        assert "Warning" not in done.stderr, f"{page}\n{block}\n{done.stderr}"


@pytest.fixture(scope="module")
def folder(made_once: Callable[..., Path]) -> Path:
    """Where the blocks of the README and the Python page have been run."""

    def fill(folder: Path) -> None:
        for page in QUICK:
            run_blocks(page, folder)

    return made_once("pages", fill)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in RUN if page not in QUICK])
def test_the_blocks_of_a_page_run(page: str, folder: Path) -> None:
    run_blocks(page, folder)


def frames_of(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_the_pages_have_blocks_to_run() -> None:
    assert RUN[0] == "README.md"
    assert {"docs/generate.md", "docs/python.md", "docs/train.md"} <= set(RUN)


def test_the_main_road_makes_grids_captions_and_an_adapter(folder: Path) -> None:
    grids = list_grids(folder / "vidgrid")
    assert len(grids) == len(list((folder / "videos").glob("*.mp4"))) > 0
    assert all(grid.with_suffix(".txt").read_text().startswith("4x6 grid") for grid in grids)
    assert len((folder / "vidgrid/metadata.jsonl").read_text().splitlines()) == len(grids)
    assert (folder / "adapter.safetensors").is_file()
    assert (folder / "adapter.run").is_dir()


@pytest.mark.parametrize(
    ("name", "count"), [("out.mp4", 24), ("clip.mp4", 24), ("star.gif", 24), ("small.gif", 6)]
)
def test_a_clip_has_the_frames_of_its_grid(folder: Path, name: str, count: int) -> None:
    assert frames_of(folder / name) == count


def test_the_python_page_has_another_grid(folder: Path) -> None:
    facts = load_metadata(list_grids(folder / "small")[0])
    assert facts is not None
    assert str(facts.grid) == "2x3 cells of 64x64, serpentine"
    assert len(list((folder / "frames").glob("*.png"))) == 6
    assert (folder / "square.png").is_file()


def toml_blocks() -> list[tuple[str, str]]:
    return [(page, block) for page in PAGES for block in blocks(page, "toml")]


def test_toml_blocks_are_profiles(tmp_path: Path) -> None:
    assert toml_blocks()
    for page, block in toml_blocks():
        path = tmp_path / "gridctl.toml"
        path.write_text(block, encoding="utf-8")
        assert load_profile(path).profile, page


def console_calls() -> Iterator[tuple[str, list[str]]]:
    """(page, words after `gridctl`) of each command in a console block."""
    for page in PAGES:
        for block in blocks(page, "console"):
            for line in block.replace("\\\n", " ").splitlines():
                for part in line.removeprefix("$ ").split(" | "):
                    words = shlex.split(part, comments=True)
                    if words[:1] == ["gridctl"]:
                        yield page, words[1:]


def inline_calls() -> Iterator[tuple[str, list[str]]]:
    """(page, words after `gridctl`) of each command with flags that is quoted in a sentence."""
    for page, text in PAGES.items():
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        for quoted in re.findall(r"`gridctl ([^`]+)`", prose):
            words = shlex.split(quoted)
            if any(word.startswith("-") for word in words[1:]):
                yield page, words


def test_commands_that_are_not_run_exist_with_their_flags() -> None:
    calls = [*console_calls(), *inline_calls()]
    assert len(calls) >= 10
    for page, call in calls:
        fitting = [words for words in NODES if tuple(call[: len(words)]) == words]
        assert fitting, f"{page}: gridctl {' '.join(call)}"
        options = NODES[max(fitting, key=len)].params
        known = {flag for option in options for flag in (*option.opts, *option.secondary_opts)}
        given = {word.partition("=")[0] for word in call if word.startswith("-") and word != "-"}
        assert given <= known, f"{page}: gridctl {' '.join(call)}"


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_says_what_it_needs(page: str) -> None:
    for block in blocks(page, "console"):
        if "$ gridctl" in block:
            assert block.startswith("# needs "), block


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_has_a_language_that_is_checked(page: str) -> None:
    fences = re.findall(r"^ *```(.*)$", PAGES[page], re.MULTILINE)
    assert set(fences[::2]) <= {"sh", "python", "toml", "console", "text"}
    assert set(fences[1::2]) <= {""}


def test_make_knows_the_tasks() -> None:
    tasks = re.findall(r"^\$ make ([\w-]+)", "\n".join(blocks("README.md", "console")), re.M)
    tasks += re.findall(r"^\| `make ([\w-]+)` \|", PAGES["docs/CONTRIBUTING.md"], re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"demo", "test", "test-all"} <= set(tasks)
    assert [t for t in tasks if not re.search(rf"^{t}:", makefile, re.MULTILINE)] == []


def test_the_table_names_every_command_and_no_other() -> None:
    named = re.findall(r"^\| `gridctl ([\w -]+)` \|", README, re.MULTILINE)
    alone = [name for name in named if "--" not in name]  # a group with a flag is checked above
    groups = {path.rpartition(" ")[0] for path in COMMANDS}
    assert sorted(alone) == sorted(path for path in COMMANDS if path not in groups)


def test_the_profiles_that_pages_name_ship() -> None:
    names = {name for text in PAGES.values() for name in re.findall(r"flux-[a-z]+-\d+gb", text)}
    assert len(names) >= 3
    for name in names:
        load_profile(name)


def links() -> list[tuple[str, str]]:
    """(page, target) of each link and picture; web addresses are left out."""
    return [
        (page, target)
        for page, text in PAGES.items()
        for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text)
        for target in target
        if target and "://" not in target
    ]


def quoted_paths() -> list[tuple[str, str]]:
    """(page, path) of each file of the repository that is named in backticks.

    Entries of the lab and of the changelog name files as they were on their day.
    """
    pattern = r"`((?:docs|examples|tests|gridctl/\w+)/[\w./-]*|\.ci/[\w.]+)`"
    return [
        (page, path)
        for page, text in PAGES.items()
        if not page.startswith(("docs/lab/2", "docs/CHANGELOG"))
        for path in re.findall(pattern, text)
    ]


def anchors(page: str) -> set[str]:
    """GitHub's anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", PAGES[page], re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def test_links_lead_to_files_and_headings() -> None:
    assert len(links()) >= 30
    assert any("#" in target for _, target in links())
    for page, target in links():
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(str(path.resolve().relative_to(ROOT))), f"{page}: {target}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, new = set(), {"README.md"}
    while new:
        reached |= new
        found = {(ROOT / p).parent / t.partition("#")[0] for p, t in links() if p in new}
        names = {str(path.resolve().relative_to(ROOT)) for path in found if path.suffix == ".md"}
        new = names - reached
    assert set(PAGES) - reached == set()


def test_files_that_are_named_exist() -> None:
    assert len(quoted_paths()) >= 10
    for page, path in quoted_paths():
        assert (ROOT / path).exists(), f"{page}: {path}"


def test_nothing_is_installed_by_our_name() -> None:
    """The package index has somebody else's gridctl: install from a checkout, or the package."""
    places = [*ROOT.glob("gridctl/**/*.py"), *ROOT.glob("examples/**/*"), *ROOT.glob("docs/*.md")]
    places += [ROOT / "README.md", *ROOT.glob("gridctl/profiles/*.toml")]
    wrong = re.compile(r"pip install[^\n]*\bgridctl\b|gridctl\[")
    kinds = {".md", ".py", ".sh", ".toml"}
    texts = {path: path.read_text(encoding="utf-8") for path in places if path.suffix in kinds}
    assert len(texts) > 200
    found = [line for text in texts.values() for line in text.splitlines() if wrong.search(line)]
    # A comment after the command may say where to run it.
    assert [line for line in found if "# in gridctl's folder" not in line] == []
