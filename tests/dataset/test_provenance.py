import json
from pathlib import Path

import pytest

from gridctl.dataset.folder import JOURNAL, note_provenance, read_provenance
from gridctl.errors import InputError

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
    journal = tmp_path / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-5])
    note_provenance(tmp_path / "c.jpg", "x", MADE)
    assert {name for name, _ in read_provenance(tmp_path)} == {"a.jpg", "c.jpg"}


def test_an_unwritable_folder_is_one_error_line(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        note_provenance(tmp_path / "a.jpg", "x", MADE)


def test_an_unreadable_file_is_one_error_line(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read_provenance(tmp_path)


def test_a_new_folder_is_empty(tmp_path: Path) -> None:
    assert read_provenance(tmp_path) == {}
