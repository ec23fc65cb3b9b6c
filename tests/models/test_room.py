"""Making room on a card; a CPU stands for it, with as much free memory as the test says."""

import math
from typing import Any

import pytest
import torch

from gridctl.errors import InputError
from gridctl.machine.devices import free_gib
from gridctl.models.prompts import encode_prompts, make_room


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
