import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gridctl.caption import caption
from gridctl.errors import InputError, UsageError
from gridctl.geometry import Grid
from gridctl.media.facts import Facts
from gridctl.media.grid_image import save_grid
from gridctl.prompt import grid_prompt, layout_template

GRID = Grid(rows=1, cols=2, cell=(16, 16))


def make_grid(path: Path, source: str = "red_ball-bounces 02.mp4", text: str | None = None) -> Path:
    facts = Facts(
        grid=GRID, source=source, times_seconds=(0.0, 0.5), fps=2.0, num_frames=2, text=text
    )
    save_grid(np.zeros((16, 32, 3), np.uint8), path, facts)
    return path


def written(image: Path) -> str:
    return image.with_suffix(".txt").read_text(encoding="utf-8")


def test_layout_comes_first_then_the_content_of_the_facts(tmp_path: Path) -> None:
    image = make_grid(tmp_path / "vid1.jpg", text="ein Bär\n läuft")
    result = caption([tmp_path], subject="a cat")
    assert result.written == (tmp_path / "vid1.txt",)
    assert written(image) == grid_prompt(GRID, "ein Bär läuft") + "\n"
    line = json.loads((tmp_path / "metadata.jsonl").read_text(encoding="utf-8"))
    assert line["text"] == written(image).strip()


def test_content_is_the_text_else_the_subject_else_the_words_of_the_name(tmp_path: Path) -> None:
    image = make_grid(tmp_path / "vid1.jpg")
    caption([tmp_path])
    assert written(image).endswith(" red ball bounces\n")
    caption([tmp_path], subject="a cat", force=True)
    assert written(image).endswith(" a cat\n")
    make_grid(tmp_path / "vid2.jpg", text="a dog")
    caption([tmp_path], subject="a cat")
    assert written(tmp_path / "vid2.jpg").endswith(" a dog\n")


def test_no_content_fails_that_grid_alone(tmp_path: Path) -> None:
    make_grid(tmp_path / "0001.jpg", source="videos/0001.mp4")
    make_grid(tmp_path / "0002.jpg", source="videos/bear.mp4")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    result = caption([tmp_path])
    assert [path.name for path in result.written] == ["0002.txt"]
    reasons = {failure.path.name: failure.reason for failure in result.failed}
    assert "--subject" in reasons["0001.jpg"]
    assert "no gridctl facts" in reasons["photo.png"]
    assert not (tmp_path / "0001.txt").exists()


def test_captions_that_are_there_are_kept_and_reach_the_metadata(tmp_path: Path) -> None:
    image = make_grid(tmp_path / "vid1.jpg")
    image.with_suffix(".txt").write_text("by hand", encoding="utf-8")
    result = caption([tmp_path])
    assert (result.written, result.skipped) == ((), (tmp_path / "vid1.txt",))
    assert written(image) == "by hand"
    assert json.loads((tmp_path / "metadata.jsonl").read_text())["text"] == "by hand"
    caption([tmp_path], force=True)
    assert written(image) != "by hand"


def test_layouts(tmp_path: Path) -> None:
    image = make_grid(tmp_path / "vid1.jpg")
    caption([image], layout="turn")
    assert written(image) == grid_prompt(GRID, "red ball bounces", layout_template("turn")) + "\n"
    caption([image], layout="{rows} by {cols}:", force=True)
    assert written(image) == "1 by 2: red ball bounces\n"
    with pytest.raises(UsageError, match="spin"):
        caption([image], layout="spin", force=True)


def test_sub_folders_have_their_own_metadata(tmp_path: Path) -> None:
    make_grid(tmp_path / "train" / "vid1.jpg")
    make_grid(tmp_path / "val" / "vid1.jpg")
    caption([tmp_path])
    for name in ("train", "val"):
        line = json.loads((tmp_path / name / "metadata.jsonl").read_text())
        assert line["text"].endswith("red ball bounces")


def test_a_folder_without_grids_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no grid image"):
        caption([tmp_path])
