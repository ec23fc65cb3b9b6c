import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gridctl.errors import InputError
from gridctl.machine.devices import free_gib
from gridctl.models.prompts import encode_prompts, join_prompts, make_room, move_prompt

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
            assert torch.equal(first[text]["embeds"], alone["embeds"])
            assert torch.equal(first[text]["pooled"], alone["pooled"])
    monkeypatch.setattr("transformers.T5EncoderModel.from_pretrained", None)
    with pytest.raises(InputError), base.text_encoders():
        pass
    again = encode_prompts(base, reversed(TEXTS), text_tokens=None)
    assert list(again) == TEXTS[::-1]
    for text in TEXTS:
        assert torch.equal(again[text]["embeds"], first[text]["embeds"])
        assert torch.equal(again[text]["pooled"], first[text]["pooled"])


def test_another_length_dtype_or_a_damaged_entry_is_encoded_again(cache: Path, base: Any) -> None:
    encode_prompts(base, TEXTS[:1], text_tokens=None)
    assert encode_prompts(base, TEXTS[:1], text_tokens=16)[TEXTS[0]]["embeds"].shape[1] == 16
    half = encode_prompts(replace(base, dtype=torch.bfloat16), TEXTS[:1], text_tokens=None)
    assert half[TEXTS[0]]["embeds"].dtype == torch.bfloat16
    entries = list(cache.rglob("*.safetensors"))
    assert len(entries) == 3
    for entry in entries:
        entry.write_bytes(b"")
    assert encode_prompts(base, TEXTS[:1], text_tokens=None)[TEXTS[0]]["embeds"].any()


def test_a_cache_that_cannot_be_written_does_not_stop_drawing(
    base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GRIDCTL_CACHE", str(tmp_path / "file"))
    assert encode_prompts(base, TEXTS[:1], text_tokens=None)[TEXTS[0]]["embeds"].any()


def test_prompts_are_joined_and_moved_by_name() -> None:
    one, other = ({"a": torch.full((1, 2), float(k)), "b": torch.full((1,), k)} for k in (1, 2))
    both = join_prompts([one, other])
    assert both["a"].tolist() == [[1.0, 1.0], [2.0, 2.0]]
    assert both["b"].tolist() == [1, 2]
    moved = move_prompt(both, torch.device("meta"))
    assert [tensor.is_meta for tensor in moved.values()] == [True, True]


# Room on a card; a CPU stands for it, with as much free memory as the test says.


class Model(torch.nn.Linear):
    """A layer that writes down where it is moved."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.moves: list[str] = []

    def to(self, device: Any) -> Any:
        self.moves.append(str(device))
        return super().to(device)


@pytest.mark.parametrize(("free", "moves"), [(9.0, ["cpu", "cpu"]), (10.0, [])])
def test_a_model_moves_away_and_back_if_the_other_one_does_not_fit(
    free: float, moves: list[str]
) -> None:
    model = Model()
    with make_room(10.0, model, free=lambda device: free):
        assert model.moves == moves[:1]
    assert model.moves == moves


def test_it_comes_back_after_an_error() -> None:
    model = Model()
    with pytest.raises(InputError), make_room(1.0, model, free=lambda device: 0.0):
        raise InputError("no encoder")
    assert len(model.moves) == 2


def test_there_is_always_room_on_a_cpu() -> None:
    assert free_gib(torch.device("cpu")) == math.inf


def test_room_is_made_only_for_prompts_that_have_to_be_encoded(base: Any) -> None:
    model = Model()
    for text, moves in (("a new prompt", 2), ("a new prompt", 2), ("another one", 4)):
        room = make_room(1.0, model, free=lambda device: 0.0)
        encode_prompts(base, [text], text_tokens=None, room=room)
        assert len(model.moves) == moves
