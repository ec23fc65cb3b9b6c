from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gridctl.errors import InputError
from gridctl.models.prompts import encode_prompts

TEXTS = ["a red circle", "a blue star", ""]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRIDCTL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_known_prompt_needs_no_encoders_and_has_the_same_numbers(
    cache: Path, base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encode_prompts(base, TEXTS, text_tokens=None)
    with base.text_encoders() as encode, torch.inference_mode():
        for text in TEXTS:
            alone = encode([text])
            assert torch.equal(first[text].embeds, alone.embeds)
            assert torch.equal(first[text].pooled, alone.pooled)
    monkeypatch.setattr("transformers.T5EncoderModel.from_pretrained", None)
    with pytest.raises(InputError), base.text_encoders():
        pass
    again = encode_prompts(base, reversed(TEXTS), text_tokens=None)
    assert list(again) == TEXTS[::-1]
    for text in TEXTS:
        assert torch.equal(again[text].embeds, first[text].embeds)
        assert torch.equal(again[text].pooled, first[text].pooled)


def test_another_length_dtype_or_a_damaged_entry_is_encoded_again(cache: Path, base: Any) -> None:
    encode_prompts(base, TEXTS[:1], text_tokens=None)
    assert encode_prompts(base, TEXTS[:1], text_tokens=16)[TEXTS[0]].embeds.shape[1] == 16
    half = encode_prompts(replace(base, dtype=torch.bfloat16), TEXTS[:1], text_tokens=None)
    assert half[TEXTS[0]].embeds.dtype == torch.bfloat16
    entries = list(cache.rglob("*.safetensors"))
    assert len(entries) == 3
    for entry in entries:
        entry.write_bytes(b"")
    assert encode_prompts(base, TEXTS[:1], text_tokens=None)[TEXTS[0]].embeds.any()


def test_a_cache_that_cannot_be_written_does_not_stop_drawing(
    base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GRIDCTL_CACHE", str(tmp_path / "file"))
    assert encode_prompts(base, TEXTS[:1], text_tokens=None)[TEXTS[0]].embeds.any()
