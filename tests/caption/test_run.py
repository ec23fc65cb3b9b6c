import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gridctl.caption import caption
from gridctl.caption.question import Answers, Question, Reply
from gridctl.dataset.grid_image import save_grid
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import GridctlError, InputError, UsageError
from gridctl.geometry import Grid
from gridctl.models.hub import text_limits
from gridctl.profile import Profile, load_profile
from gridctl.prompt import grid_prompt, layout_template

Captioning = Callable[..., Profile]

GRID = Grid(rows=1, cols=2, cell=(16, 16))


def make_grid(path: Path, source: str = "red_ball-bounces 02.mp4", text: str | None = None) -> Path:
    metadata = GridMetadata(
        grid=GRID, source=source, times_seconds=(0.0, 0.5), fps=2.0, num_frames=2, text=text
    )
    save_grid(np.zeros((16, 32, 3), np.uint8), path, metadata)
    return path


@dataclass
class Scripted:
    """A describer that answers from a script, by the grid's name; the real ones have own tests."""

    script: dict[str, Reply | GridctlError]
    asked: list[Question] = field(default_factory=list)
    stops_at: str = ""
    backend = "scripted"
    model = "of/paper"

    def describe(self, questions: Iterator[Question]) -> Answers:
        for question in questions:
            if question.image.stem == self.stops_at:
                raise GridctlError("the model is gone.")
            self.asked.append(question)
            yield question, self.script.get(question.image.stem, Reply(text="A dog runs."))


def lines(folder: Path) -> dict[str, dict[str, object]]:
    """metadata.jsonl by file name."""
    entries = map(json.loads, (folder / "metadata.jsonl").read_text("utf-8").splitlines())
    return {str(entry["file_name"]): entry for entry in entries}


def written(image: Path) -> str:
    return image.with_suffix(".txt").read_text(encoding="utf-8")


def test_the_layout_comes_first_then_the_content(captioning: Captioning, tmp_path: Path) -> None:
    image = make_grid(tmp_path / "vid1.jpg", text="ein Bär\n läuft")
    result = caption([tmp_path], captioning(subject="a cat"))
    assert result.written == (tmp_path / "vid1.txt",)
    assert written(image) == grid_prompt(GRID, "ein Bär läuft") + "\n"
    line = json.loads((tmp_path / "metadata.jsonl").read_text(encoding="utf-8"))
    assert line["text"] == written(image).strip()


def test_content_is_the_text_the_subject_or_the_name(
    captioning: Captioning, tmp_path: Path
) -> None:
    image = make_grid(tmp_path / "vid1.jpg")
    caption([tmp_path])
    assert written(image).endswith(" red ball bounces\n")
    caption([tmp_path], captioning(subject="a cat"), force=True)
    assert written(image).endswith(" a cat\n")
    make_grid(tmp_path / "vid2.jpg", text="a dog")
    caption([tmp_path], captioning(subject="a cat"))
    assert written(tmp_path / "vid2.jpg").endswith(" a dog\n")


def test_no_content_fails_that_grid_alone(tmp_path: Path) -> None:
    make_grid(tmp_path / "0001.jpg", source="videos/0001.mp4")
    make_grid(tmp_path / "0002.jpg", source="videos/bear.mp4")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    result = caption([tmp_path])
    assert [path.name for path in result.written] == ["0002.txt"]
    reasons = {failure.path.name: failure.reason for failure in result.failed}
    assert "--subject" in reasons["0001.jpg"]
    assert "no gridctl metadata" in reasons["photo.png"]
    assert not (tmp_path / "0001.txt").exists()


def test_a_name_outside_utf_8_fails_alone(tmp_path: Path) -> None:
    make_grid(tmp_path / "vid1.jpg").rename(tmp_path / os.fsdecode(b"caf\xe9.jpg"))
    make_grid(tmp_path / "vid2.jpg")
    result = caption([tmp_path])
    assert [path.name for path in result.written] == ["vid2.txt"]
    assert "not UTF-8; rename it" in result.failed[0].reason
    assert list(lines(tmp_path)) == ["vid2.jpg"]


def test_existing_captions_reach_the_metadata(tmp_path: Path) -> None:
    image = make_grid(tmp_path / "vid1.jpg")
    image.with_suffix(".txt").write_text("by hand", encoding="utf-8")
    result = caption([tmp_path])
    assert (result.written, result.skipped) == ((), (tmp_path / "vid1.txt",))
    assert written(image) == "by hand"
    assert json.loads((tmp_path / "metadata.jsonl").read_text())["text"] == "by hand"
    caption([tmp_path], force=True)
    assert written(image) != "by hand"


def test_layouts(captioning: Captioning, tmp_path: Path) -> None:
    image = make_grid(tmp_path / "vid1.jpg")
    caption([image], captioning(layout="turn"))
    assert written(image) == grid_prompt(GRID, "red ball bounces", layout_template("turn")) + "\n"
    caption([image], captioning(layout="{rows} by {cols}:"), force=True)
    assert written(image) == "1 by 2: red ball bounces\n"
    with pytest.raises(UsageError, match="spin"):
        caption([image], captioning(layout="spin"), force=True)


def test_a_caption_is_one_line(captioning: Captioning, tmp_path: Path) -> None:
    image = make_grid(tmp_path / "vid1.jpg")
    caption([image], captioning(layout="{rows} by\n{cols}:", mapping={"vid1": "a\r\nfox"}))
    assert written(image) == "1 by 2: a fox\n"
    caption([image], captioning(mapping={"vid1": "a\nfox"}), describer=Scripted({}), force=True)
    assert written(image) == f"{OPENING} a fox. A dog runs.\n"


def test_a_model_is_opened_only_if_a_grid_needs_it(captioning: Captioning, tmp_path: Path) -> None:
    without_address = captioning(backend="server")
    with pytest.raises(InputError, match="no grid image"):
        caption([tmp_path], without_address)
    (failure,) = caption([tmp_path / "nowhere"], without_address).failed
    assert "does not exist" in failure.reason
    image = make_grid(tmp_path / "vid1.jpg")
    with pytest.raises(UsageError, match="needs an address"):
        caption([tmp_path], without_address)
    image.with_suffix(".txt").write_text("there")
    assert len(caption([tmp_path], without_address).skipped) == 1


def test_a_caption_is_no_grid(tmp_path: Path) -> None:
    image = make_grid(tmp_path / "vid1.jpg")
    caption([image])
    with pytest.raises(UsageError, match="is not a grid image"):
        caption([image.with_suffix(".txt")])


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


OPENING = "1x2 grid of 2 video frames in reading order."


def test_answers_are_cleaned_and_errors_fail_alone(tmp_path: Path) -> None:
    for name in ("vid1", "vid2", "vid3", "vid4", "vid10"):
        make_grid(tmp_path / f"{name}.jpg")
    script: dict[str, Reply | GridctlError] = {
        "vid1": Reply(text="**A cat** sits.\nIt"),
        "vid2": Reply(text=" "),
        "vid3": Reply(text="I'm sorry, I can't help with that."),
        "vid4": GridctlError("the line is dead."),
        "vid10": Reply(text="A cat sits. It jum", finished=False),
    }
    result = caption([tmp_path], describer=Scripted(script))
    assert [path.name for path in result.written] == ["vid1.txt", "vid10.txt"]
    assert written(tmp_path / "vid1.jpg") == f"{OPENING} A cat sits. It\n"
    assert written(tmp_path / "vid10.jpg") == f"{OPENING} A cat sits.\n"
    assert [failure.path.name for failure in result.failed] == ["vid2.jpg", "vid3.jpg", "vid4.jpg"]
    for failure, word in zip(result.failed, ("empty", "refuses", "dead"), strict=True):
        assert failure.reason.startswith(str(failure.path))
        assert word in failure.reason
        assert not failure.path.with_suffix(".txt").exists()


def test_captions_record_their_model_until_edited(captioning: Captioning, tmp_path: Path) -> None:
    images = [make_grid(tmp_path / f"vid{k}.jpg") for k in (1, 2, 3)]
    model = Scripted({})
    caption(images[:1], describer=model)
    caption([tmp_path], captioning(subject="a cat"))
    known = lines(tmp_path)
    fields = ("caption_backend", "caption_model", "caption_prompt")
    assert [known["vid1.jpg"][f] for f in fields] == ["scripted", "of/paper", model.asked[0].text]
    assert [known["vid2.jpg"][f] for f in fields][:2] == ["template", None]
    images[0].with_suffix(".txt").write_text("by hand")
    images[1].unlink()
    make_grid(images[1])  # packed again: the caption stays, and what is known of it
    caption([tmp_path])
    known = lines(tmp_path)
    assert "caption_backend" not in known["vid1.jpg"]
    assert known["vid2.jpg"]["caption_backend"] == "template"
    assert not list(tmp_path.glob(".*"))


def test_a_stopped_run_keeps_its_captions_and_resumes(tmp_path: Path) -> None:
    for k in (1, 2, 3):
        make_grid(tmp_path / f"vid{k}.jpg")
    with pytest.raises(GridctlError, match="gone"):
        caption([tmp_path], describer=Scripted({}, stops_at="vid3"))
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == ["vid1.txt", "vid2.txt"]
    assert lines(tmp_path)["vid2.jpg"]["caption_model"] == "of/paper"
    second = Scripted({})
    result = caption([tmp_path], describer=second)
    assert [question.image.name for question in second.asked] == ["vid3.jpg"]
    assert len(result.skipped) == 2
    assert lines(tmp_path)["vid1.jpg"]["caption_backend"] == "scripted"


def test_a_killed_run_keeps_the_record_of_its_captions(tmp_path: Path) -> None:
    from gridctl.dataset.folder import note_provenance

    image = make_grid(tmp_path / "vid1.jpg")
    note_provenance(image, "A dog.", {"caption_backend": "vlm"})  # as it is left by a kill
    image.with_suffix(".txt").write_text("A dog.\n")
    caption([tmp_path])
    assert lines(tmp_path)["vid1.jpg"]["caption_backend"] == "vlm"
    assert not list(tmp_path.glob(".*"))


def test_a_dry_run_shows_some_and_writes_none(tmp_path: Path) -> None:
    for k in range(5):
        make_grid(tmp_path / f"vid{k}.jpg")
    model = Scripted({"vid1": Reply(text="")})
    before = sorted(tmp_path.iterdir())
    result = caption([tmp_path], describer=model, dry_run=True)
    assert sorted(tmp_path.iterdir()) == before
    assert [preview.image.name for preview in result.previews] == ["vid0.jpg", "vid2.jpg"]
    assert result.previews[0].caption == f"{OPENING} A dog runs."
    assert result.previews[0].question == model.asked[0].text
    assert len(model.asked) == 3
    assert [failure.path.name for failure in result.failed] == ["vid1.jpg"]


def test_a_mapping_gives_the_content_of_each_grid(captioning: Captioning, tmp_path: Path) -> None:
    make_grid(tmp_path / "vid1.jpg", text="from the clip")
    make_grid(tmp_path / "vid2.jpg")
    result = caption([tmp_path], captioning(mapping={"vid1": "a fox", "vid7": "a hen"}))
    assert written(tmp_path / "vid1.jpg") == f"{OPENING} a fox\n"
    assert written(tmp_path / "vid2.jpg") == f"{OPENING} red ball bounces\n"
    assert result.unused == ("vid7",)


def test_the_subject_is_asked_and_read_by_clip(captioning: Captioning, tmp_path: Path) -> None:
    image = make_grid(tmp_path / "vid1.jpg")
    model = Scripted({"vid1": Reply(text="A dog runs. " * 40 + "It is Rex.")})
    caption([image], captioning(subject="Rex."), describer=model)
    assert "The subject is: Rex" in model.asked[0].text
    assert written(image).startswith(f"{OPENING} Rex. A dog runs.")
    caption([image], captioning(subject="a DOG"), describer=model, force=True)
    assert written(image).startswith(f"{OPENING} A dog runs.")
    result = caption([image], captioning(subject="dog " * 80), describer=model, force=True)
    assert "77 tokens that CLIP reads" in result.failed[0].reason
    result = caption([image], captioning(layout="{rows} " * 80), describer=model, force=True)
    assert "layout prompt alone" in result.failed[0].reason


@pytest.mark.parametrize("profile", [Profile(), load_profile("tiny").profile])
def test_a_long_caption_is_cut_to_what_t5_reads(tmp_path: Path, profile: Profile) -> None:
    image = make_grid(tmp_path / "vid1.jpg", text="A red circle moves. " * 300)
    result = caption([tmp_path], profile)
    assert result.shortened == (image.with_suffix(".txt"),)
    text = written(image).strip()
    assert text.endswith("moves.")
    limits = text_limits(profile)
    assert limits.whole.fits(text)
    assert not limits.whole.fits(f"{text} A red circle moves.")


def test_layouts_time_and_free(captioning: Captioning, tmp_path: Path) -> None:
    image = make_grid(tmp_path / "vid1.jpg")
    caption([image], captioning(layout="time"))
    assert written(image).startswith("1x2 grid of 2 frames 0.5 seconds apart in reading order. ")
    caption([image], captioning(layout="free"), force=True)
    assert written(image) == "red ball bounces\n"


def test_two_images_with_one_name_share_one_caption(tmp_path: Path) -> None:
    make_grid(tmp_path / "vid1.jpg")
    make_grid(tmp_path / "vid1.png")
    model = Scripted({})
    result = caption([tmp_path, tmp_path / "vid1.jpg"], describer=model)
    assert len(model.asked) == len(result.written) == 1


def test_a_caption_that_is_a_folder_fails_alone(tmp_path: Path) -> None:
    image = make_grid(tmp_path / "vid1.jpg")
    image.with_suffix(".txt").mkdir()
    make_grid(tmp_path / "vid2.jpg")
    result = caption([tmp_path])
    assert [path.name for path in result.written] == ["vid2.txt"]
    assert len(result.failed) == 1


def test_progress_counts_every_grid_and_shows_the_rate(tmp_path: Path) -> None:
    for k in range(3):
        make_grid(tmp_path / f"vid{k}.jpg")
    (tmp_path / "vid0.txt").write_text("there")
    told: list[tuple[int, int, str]] = []
    caption([tmp_path], progress=lambda *step: told.append(step))
    assert [step[:2] for step in told] == [(1, 3), (2, 3), (3, 3)]
    assert "grids/s  vid2.jpg" in told[-1][2]
