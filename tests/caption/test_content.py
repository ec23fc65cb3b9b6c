import json
import unicodedata
from pathlib import Path

import pytest

from gridctl.caption.content import ContentSource, read_mapping
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import InputError, UsageError
from gridctl.geometry import Grid

FILES = {
    "map.csv": 'file_name,views,text\nvid1,3,"a ball, red"\nclips/b.mp4,1,"two\nlines"\n',
    "map.jsonl": '{"file_name": "vid1", "text": "a ball, red"}\n\n'
    '{"file_name": "clips/b.mp4", "text": "two\\nlines"}\n{"file_name": "vid3", "text": null}\n',
    "map.toml": 'vid1 = "a ball, red"\n"clips/b.mp4" = "two\\nlines"\n',
}


def metadata(source: str = "clips/red_ball 02.mp4", text: str | None = None) -> GridMetadata:
    grid = Grid(rows=1, cols=1, cell=(16, 16))
    return GridMetadata(
        grid=grid, source=source, times_seconds=(0.0,), fps=1, num_frames=1, text=text
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("name", sorted(FILES))
def test_a_mapping_is_csv_jsonl_or_toml(
    tmp_path: Path, name: str, newline: str, encoding: str
) -> None:
    path = tmp_path / name
    path.write_text(FILES[name], encoding=encoding, newline=newline)
    read = {name: "\n".join(text.splitlines()) for name, text in read_mapping(path).items()}
    assert read == {"vid1": "a ball, red", "clips/b.mp4": "two\nlines"}


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_csv_of_a_spreadsheet_is_read(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "map.csv"
    path.write_text(f"File_Name{delimiter}Text\r\nvid1{delimiter}a ball, red\r\n")
    assert read_mapping(path) == {"vid1": "a ball, red"}


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_mapping_keeps_its_names_and_texts(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(FILES[name])
    assert read_mapping(path) == {"vid1": "a ball, red", "clips/b.mp4": "two\nlines"}


def test_csv_lines_end_with_line_feeds_only(tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    path.write_text("file_name,text\nvid1,a\u2028b\nvid2,c\n", encoding="utf-8")
    assert read_mapping(path) == {"vid1": "a\u2028b", "vid2": "c"}


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.csv", "name,text\nx,y\n", "no column file_name"),
        ("a.csv", "file_name,text\nx\n", "line 2: it needs a name and a text"),
        ("a.csv", 'file_name,text\nx,"y\n', "not CSV"),
        ("a.csv", "file_name,text\nx,y\nx,z\n", "line 3: x has two texts"),
        ("a.csv", "", "no column file_name and no text"),
        ("a.jsonl", '{"file_name": "x", "text": "y"}\nnothing', "line 2: not JSON"),
        ("a.jsonl", '{"text": "y"}', 'line 1: no "file_name"'),
        ("a.jsonl", '{"file_name": "x", "text": 3}', "line 1: it needs a name and a text"),
        ("a.toml", "x = ", "not TOML"),
        ("a.toml", "x = 3", "x: it needs a name and a text"),
    ],
)
def test_a_wrong_mapping_is_an_error_with_its_line(
    tmp_path: Path, name: str, text: str, reason: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read_mapping(tmp_path / name)
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_other_files_are_no_mapping(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.csv, \.jsonl or \.toml"):
        read_mapping(tmp_path / "map.xlsx")
    with pytest.raises(InputError, match="cannot be read"):
        read_mapping(tmp_path / "none.csv")
    (tmp_path / "map.csv").write_bytes(b"\xff\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        read_mapping(tmp_path / "map.csv")


@pytest.mark.parametrize(
    "key",
    [
        *("data/train/vid1.jpg", "train/vid1.jpg", "train/vid1", "vid1.jpg", "vid1"),
        *("clips/red_ball 02.mp4", "red_ball 02.mp4", "red_ball 02"),
    ],
)
def test_a_key_names_the_grid_or_its_clip(key: str) -> None:
    source = ContentSource(mapping={key: "mapped", "other": "no"}, subject="subject")
    image = Path("data/train/vid1.jpg")
    assert source.content(image, metadata(text="text")).words == "mapped"
    assert source.keys_of(image, metadata()) == {key}


def test_the_most_exact_name_wins() -> None:
    source = ContentSource(
        mapping={"vid1": "any", "val/vid1": "the one in val", "red_ball 02": "z"}
    )
    assert source.content(Path("data/val/vid1.jpg"), metadata()).words == "the one in val"
    assert source.content(Path("data/train/vid1.jpg"), metadata()).words == "any"


def test_mapping_then_text_then_subject_then_name() -> None:
    image = Path("vid1.jpg")
    mapped = ContentSource(mapping={"vid1": "mapped"}, subject="subject")
    plain = ContentSource(subject="subject")
    assert mapped.content(image, metadata(text="text")).words == "mapped"
    assert plain.content(image, metadata(text="beside it")).words == "beside it"
    assert plain.content(image, metadata()).words == "subject"
    assert ContentSource().content(image, metadata()).words == "red ball"
    with pytest.raises(InputError, match=r"use --subject or --mapping, .* or write vid1\.txt"):
        ContentSource().content(image, metadata(source="0001.mp4"))


def test_a_model_gets_mapping_or_subject_no_name() -> None:
    image = Path("vid1.jpg")
    assert ContentSource(subject=" a cat ").known_subject(image, metadata(text="text")) == "a cat"
    assert ContentSource(mapping={"vid1": "b"}, subject="a").known_subject(image, metadata()) == "b"
    assert ContentSource().known_subject(image, metadata(text="text")) is None


def test_the_metadata_of_a_dataset_is_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "metadata.jsonl"
    path.write_text(json.dumps({"file_name": "vid1.jpg", "text": "a", "rows": 1}) + "\n")
    assert read_mapping(path) == {"vid1.jpg": "a"}


@pytest.mark.parametrize(
    "key",
    [
        unicodedata.normalize("NFD", "bär läuft.mov"),
        "BÄR LÄUFT.MOV",
        "videos\\bär läuft.mov",
        "./bär läuft.mov",
        "/somewhere/videos/bär läuft.mov",
        "C:\\videos\\bär läuft.mov",
    ],
)
def test_a_key_may_be_spelled_in_other_ways(key: str) -> None:
    source = ContentSource(mapping={key: "a bear", "other": "no"})
    clip = metadata(source=unicodedata.normalize("NFD", "../videos/bär läuft.mov"))
    assert source.content(Path("vid1.jpg"), clip).words == "a bear"
    assert source.keys_of(Path("vid1.jpg"), clip) == {key}


def test_keys_may_differ_in_case_only() -> None:
    source = ContentSource(mapping={"a.mp4": "small", "A.mp4": "large"})
    assert source.mapped(Path("vid1.jpg"), metadata(source="A.mp4")) == "large"
    assert source.mapped(Path("vid1.jpg"), metadata(source="a.mp4")) == "small"


def test_a_key_of_another_folder_does_not_match() -> None:
    source = ContentSource(mapping={"val/a.mp4": "validation"})
    assert source.mapped(Path("vid1.jpg"), metadata(source="train/a.mp4")) is None


def test_half_a_character_in_a_text_is_dropped() -> None:
    source = ContentSource(mapping={"vid1": "a ball \ud83d"})
    assert source.content(Path("vid1.jpg"), metadata()).words == "a ball"
    assert source.known_subject(Path("vid1.jpg"), metadata()) == "a ball"


def test_words_that_say_nothing_are_passed_over() -> None:
    source = ContentSource(mapping={"vid1": "video 3"}, subject="a cat")
    assert source.content(Path("vid1.jpg"), metadata(text="Untitled")).words == "a cat"
    with pytest.raises(InputError, match='its mapping is "video 3", which does not say'):
        ContentSource(mapping={"vid1": "video 3"}).content(
            Path("vid1.jpg"), metadata(source="IMG_4712.MOV")
        )
