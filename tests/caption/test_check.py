from pathlib import Path

import numpy as np
import pytest

from gridctl.caption import caption, check
from gridctl.dataset.grid_image import save_grid
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import InputError
from gridctl.geometry import Grid
from gridctl.profile import load_profile

GRID = Grid(rows=1, cols=2, cell=(16, 16))
NAMES = ["cat", "dog", "bird", "fish"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four grids with good captions."""
    for name in NAMES:
        metadata = GridMetadata(
            grid=GRID, source=name, times_seconds=(0.0, 0.5), fps=2.0, num_frames=2
        )
        save_grid(np.zeros((16, 32, 3), np.uint8), tmp_path / f"{name}.png", metadata)
    caption([tmp_path])
    return tmp_path


def faults(folder: Path, layout: str = "video") -> dict[str, str]:
    result = check([folder], load_profile(None, {"caption.layout": layout}).profile)
    assert result.grids == len(NAMES)
    return {finding.path.name: finding.fault for finding in result.findings}


@pytest.mark.parametrize("layout", ["video", "turn", "time", "action", "free", "{cols} pictures:"])
def test_what_caption_writes_has_no_fault(folder: Path, layout: str) -> None:
    caption([folder], load_profile(None, {"caption.layout": layout}).profile, force=True)
    assert faults(folder, layout) == {}


def test_missing_empty_and_unreadable(folder: Path) -> None:
    (folder / "cat.txt").unlink()
    (folder / "dog.txt").write_text("\n")
    (folder / "bird.txt").write_bytes(b"\xff")
    (folder / "fish.png").write_bytes(b"no picture")
    found = faults(folder)
    assert found["cat.txt"].startswith("missing")
    assert found["dog.txt"].startswith("empty")
    assert "not UTF-8" in found["bird.txt"]
    assert "fish.png" in found["fish.txt"]


def test_too_long_and_without_content(folder: Path) -> None:
    opening = "1x2 grid of 2 video frames in reading order."
    (folder / "cat.txt").write_text(f"{opening} " + "word " * 600)
    (folder / "dog.txt").write_text(opening)
    found = faults(folder)
    assert "512 tokens that T5 reads" in found["cat.txt"]
    assert "without content" in found["dog.txt"]
    short = check([folder], load_profile("tiny", {"model.text_tokens": 5}).profile)
    assert len(short.findings) == len(NAMES) + 1


def test_the_same_caption_twice_names_the_first(folder: Path) -> None:
    (folder / "fish.txt").write_text("1x2 grid of 2  video frames in reading order. BIRD")
    assert faults(folder) == {"fish.txt": f"the same as {folder / 'bird.txt'}; write what differs."}


@pytest.mark.parametrize(
    "wrong",
    [
        "4x6 grid of 24 video frames in reading order. a cat",
        "1x2 grid of 2 video frames in serpentine order. a cat",
        "1x2 grid of 3 views of one full turn in reading order. a cat",
        "1x2 grid of 2 frames 3 seconds apart in reading order. a cat",
        "2 by 1: a cat",
    ],
)
def test_a_layout_that_contradicts_the_facts(folder: Path, wrong: str) -> None:
    (folder / "cat.txt").write_text(wrong)
    found = faults(folder, "{rows} by {cols}:")
    assert list(found) == ["cat.txt"]
    assert "but the metadata says" in found["cat.txt"]


def test_a_free_caption_contradicts_nothing(folder: Path) -> None:
    (folder / "cat.txt").write_text("a cat in four pictures")
    assert faults(folder) == {}


def test_several_captions_in_one_file_are_each_checked(folder: Path) -> None:
    (folder / "cat.txt").write_text("a cat sits\nvideo 3\n")
    assert faults(folder) == {"cat.txt": '"video 3" does not say what the clip shows; describe it.'}


def test_one_caption_for_all_clips_is_one_finding(folder: Path) -> None:
    for name in NAMES:
        (folder / f"{name}.txt").write_text("animals")
    found = faults(folder)
    assert list(found) == ["bird.txt"]
    assert '4 of 4 clips have the same content "animals"' in found["bird.txt"]


def test_a_folder_without_grids_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no grid image"):
        check([tmp_path])
