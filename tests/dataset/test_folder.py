"""The dataset folder: grids, captions, metadata.jsonl and the journal."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from gridctl.dataset.folder import (
    JOURNAL_FILE,
    caption_path,
    list_grids,
    note_provenance,
    read_caption,
    read_provenance,
    read_text,
    write_metadata,
)
from gridctl.dataset.grid_image import save_grid
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import InputError
from gridctl.geometry import Grid

GRID = Grid(rows=1, cols=2, cell=(16, 16))


def make_grid(path: Path) -> Path:
    metadata = GridMetadata(
        grid=GRID, source=f"{path.stem}.mp4", times_seconds=(0.0,), fps=4.0, num_frames=1, text="x"
    )
    save_grid(np.zeros((16, 32, 3), np.uint8), path, metadata)
    return path


def test_grids_are_listed_in_natural_order_with_sub_folders(tmp_path: Path) -> None:
    names = ["vid10.jpg", "vid2.png", "train/vid1.webp", "val/vid1.jpg", "train/b/vid3.jpg"]
    for name in names:
        make_grid(tmp_path / name)
    for name in [".vid3.1.tmp.jpg", "vid2.txt", "metadata.jsonl", ".cache/vid4.jpg"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    found = [path.relative_to(tmp_path).as_posix() for path in list_grids(tmp_path)]
    assert found == ["vid2.png", "vid10.jpg", "train/vid1.webp", "train/b/vid3.jpg", "val/vid1.jpg"]


def test_no_grids_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no grid image"):
        list_grids(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        list_grids(tmp_path / "nothing")


def test_captions_are_beside_their_image(tmp_path: Path) -> None:
    image = tmp_path / "take.1.jpg"
    assert caption_path(image) == tmp_path / "take.1.txt"
    assert read_caption(image) is None
    caption_path(image).write_text(" \n")
    assert read_caption(image) is None
    caption_path(image).write_text("ein Bär\n", encoding="utf-8-sig")
    assert read_caption(image) == "ein Bär"
    caption_path(image).write_bytes("ein Bär\r\nläuft".encode("utf-16"))
    assert read_caption(image) == "ein Bär\nläuft"


def test_an_upper_case_suffix_is_a_caption_too(tmp_path: Path) -> None:
    (tmp_path / "vid1.TXT").write_text("a cat")
    assert read_caption(tmp_path / "vid1.jpg") == "a cat"
    (tmp_path / "vid1.txt").write_text("a dog")
    assert read_caption(tmp_path / "vid1.jpg") == "a dog"


def test_a_binary_caption_is_one_error_line(tmp_path: Path) -> None:
    (tmp_path / "vid1.txt").write_bytes(b"\x89PNG\xff\xd8")
    with pytest.raises(InputError, match=r"vid1\.txt is not UTF-8"):
        read_text(tmp_path / "vid1.txt")


def test_metadata_lists_the_images_of_one_folder(tmp_path: Path) -> None:
    make_grid(tmp_path / "vid1.jpg")
    make_grid(tmp_path / "vid2.png")
    make_grid(tmp_path / "val" / "vid1.jpg")
    (tmp_path / "vid2.txt").write_text("ein Bär\n", encoding="utf-8")
    assert write_metadata(tmp_path) == [tmp_path / "vid1.jpg", tmp_path / "vid2.png"]
    written = (tmp_path / "metadata.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in written.splitlines()]
    assert [line["text"] for line in lines] == [None, "ein Bär"]
    assert lines[1] == {
        "file_name": "vid2.png",
        "text": "ein Bär",
        "rows": 1,
        "cols": 2,
        "cell": [16, 16],
        "order": "row-major",
        "source": "vid2.mp4",
        "times_seconds": [0.0],
        "fps": 4.0,
        "num_frames": 1,
        "part": None,
        "shared": 0,
    }
    assert not (tmp_path / "val" / "metadata.jsonl").exists()


def test_captions_come_from_the_text_files(tmp_path: Path) -> None:
    make_grid(tmp_path / "vid1.jpg")
    for caption in ("first", "second"):
        (tmp_path / "vid1.txt").write_text(caption)
        write_metadata(tmp_path)
        assert json.loads((tmp_path / "metadata.jsonl").read_text())["text"] == caption


MADE = {"caption_backend": "vlm", "caption_model": "a/b", "caption_prompt": "Say\nit: é"}


def test_the_journal_and_the_metadata_are_read_together(tmp_path: Path) -> None:
    line = {"file_name": "old.jpg", "text": "x", "rows": 1, **MADE, "caption_model": None}
    bare = {"file_name": "bare.jpg", "text": "y"}
    (tmp_path / "metadata.jsonl").write_text(f"{json.dumps(line)}\n{json.dumps(bare)}\n")
    note_provenance(tmp_path / "new.jpg", "z", MADE)
    assert read_provenance(tmp_path) == {
        ("old.jpg", "x"): {**MADE, "caption_model": None},
        ("new.jpg", "z"): MADE,
    }


def test_the_latest_entry_wins(tmp_path: Path) -> None:
    note_provenance(tmp_path / "a.jpg", "x", {**MADE, "caption_model": "first"})
    note_provenance(tmp_path / "a.jpg", "x", MADE)
    assert read_provenance(tmp_path) == {("a.jpg", "x"): MADE}


def test_a_cut_line_is_skipped(tmp_path: Path) -> None:
    note_provenance(tmp_path / "a.jpg", "x", MADE)
    note_provenance(tmp_path / "b.jpg", "x", MADE)
    journal = tmp_path / JOURNAL_FILE
    journal.write_bytes(journal.read_bytes()[:-5])
    note_provenance(tmp_path / "c.jpg", "x", MADE)
    assert {name for name, _ in read_provenance(tmp_path)} == {"a.jpg", "c.jpg"}


def test_an_unwritable_folder_is_one_error_line(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_FILE).mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        note_provenance(tmp_path / "a.jpg", "x", MADE)


def test_an_unreadable_file_is_one_error_line(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read_provenance(tmp_path)


def test_a_new_folder_is_empty(tmp_path: Path) -> None:
    assert read_provenance(tmp_path) == {}


def test_the_journal_is_no_way_to_another_file(tmp_path: Path) -> None:
    """A folder from others may have a link to a file of the user in its place."""
    (tmp_path / "bashrc").write_text("export A=1\n")
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids" / JOURNAL_FILE).symlink_to(tmp_path / "bashrc")
    with pytest.raises(InputError, match=r"\.captions\.jsonl cannot be written"):
        note_provenance(tmp_path / "grids" / "a.jpg", "`rm -r ~`", MADE)
    assert (tmp_path / "bashrc").read_text() == "export A=1\n"


def test_a_caption_may_be_a_link_to_a_caption_only(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a cat")
    (tmp_path / "id_rsa").write_text("secret")
    for name, target in (("b.txt", "a.txt"), ("c.txt", "id_rsa"), ("d.txt", "c.txt")):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "e.txt").symlink_to("e.txt")
    assert read_text(tmp_path / "b.txt") == "a cat"
    for name in ("c.txt", "d.txt"):
        with pytest.raises(InputError, match=f"{name} is a link to another kind of file, id_rsa"):
            read_text(tmp_path / name)
    with pytest.raises(InputError, match=r"e\.txt cannot be read"):
        read_text(tmp_path / "e.txt")


def test_a_caption_has_a_limit(tmp_path: Path) -> None:
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(10**12)  # takes no room on the disk
    with pytest.raises(InputError, match=r"a\.txt is larger than 1 MB; a caption has a few lines"):
        read_text(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_text("x" * 10**6)
    assert read_text(tmp_path / "a.txt") == "x" * 10**6


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are POSIX")
def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    make_grid(tmp_path / "a.jpg")
    for name in ("a.txt", "metadata.jsonl", JOURNAL_FILE):
        os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=r"a\.txt cannot be read .it is a pipe, a device"):
        read_caption(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"metadata\.jsonl cannot be read .it is a pipe"):
        read_provenance(tmp_path)
    (tmp_path / "metadata.jsonl").unlink()
    with pytest.raises(InputError, match=r"captions\.jsonl cannot be read .it is a pipe"):
        read_provenance(tmp_path)
    with pytest.raises(InputError, match=r"captions\.jsonl cannot be written"):
        note_provenance(tmp_path / "a.jpg", "x", MADE)


def test_odd_lines_are_skipped(tmp_path: Path) -> None:
    good = '{"file_name": "a.jpg", "text": "x", "caption_backend": "vlm"}'
    odd = ("[" * 100_000, "1e999", '{"a": ' * 100_000, "[1]", "9" * 5000, "\xff", "")
    (tmp_path / "metadata.jsonl").write_text("\n".join([*odd, good, *odd]), encoding="latin-1")
    assert read_provenance(tmp_path) == {("a.jpg", "x"): {"caption_backend": "vlm"}}


def test_links_to_folders_are_not_searched(tmp_path: Path) -> None:
    make_grid(tmp_path / "grids" / "a.jpg")
    make_grid(tmp_path / "others" / "b.jpg")
    (tmp_path / "grids" / "there").symlink_to(tmp_path / "others")
    (tmp_path / "grids" / "here").symlink_to(".")
    assert list_grids(tmp_path / "grids") == [tmp_path / "grids" / "a.jpg"]
