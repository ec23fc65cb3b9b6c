from pathlib import Path

import pytest
import torch

from gridctl.errors import InputError
from gridctl.train import checkpoint
from gridctl.train.checkpoint import (
    list_checkpoints,
    load_optimizer,
    optimizer_tensors,
    read_checkpoint,
    write_checkpoint,
)


def write(folder: Path, step: int, *, keep: int = 2) -> Path:
    tensors = {"weight": torch.full((3,), float(step)), "half": torch.ones(2, dtype=torch.half)}
    return write_checkpoint(folder, step, tensors, facts={"log": "[1]"}, keep=keep)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    step, tensors, facts = read_checkpoint(write(tmp_path, 12))
    assert (step, facts) == (12, {"log": "[1]"})
    assert tensors["weight"].tolist() == [12, 12, 12]
    assert tensors["half"].dtype == torch.half


def test_the_newest_are_kept_in_order_of_steps(tmp_path: Path) -> None:
    assert list_checkpoints(tmp_path / "nowhere") == []
    for step in (5, 999_998, 999_999, 1_000_000):  # past six digits, names no longer sort
        write(tmp_path, step, keep=2)
    names = [path.name for path in list_checkpoints(tmp_path)]
    assert names == [
        "step-999999.safetensors",
        "step-1000000.safetensors",
    ]


def test_a_checkpoint_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that dies half way leaves the old checkpoints, all of them."""
    write(tmp_path, 1, keep=1)

    def die(tensors: object, path: Path, metadata: object = None) -> None:
        path.write_bytes(b"half")
        raise MemoryError

    monkeypatch.setattr(checkpoint, "save_file", die)
    with pytest.raises(MemoryError):
        write(tmp_path, 2, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001.safetensors"]
    assert read_checkpoint(list_checkpoints(tmp_path)[-1])[0] == 1


def test_leftovers_of_a_killed_writer_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / ".step-000002.123.tmp.safetensors").write_bytes(b"half")
    (tmp_path / "step-000003.safetensors.part").write_bytes(b"half")
    assert list_checkpoints(tmp_path) == []


@pytest.mark.parametrize("keep", [0, 7, 100, -10])
def test_an_unreadable_file_is_one_line(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path, 4)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"step-000004\.safetensors is not.*delete") as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_an_optimizer_goes_on_as_if_it_had_not_stopped(
    kind: type[torch.optim.Optimizer], tmp_path: Path
) -> None:
    def step(optimizer: torch.optim.Optimizer, weights: torch.Tensor) -> None:
        (weights * torch.arange(4.0)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    options = {"lr": 0.1, **({"momentum": 0.9} if kind is torch.optim.SGD else {})}
    first = torch.ones(4, requires_grad=True)
    whole = kind([first], **options)
    for _ in range(3):
        step(whole, first)
    second = first.detach().clone().requires_grad_()
    other = kind([second], **options)
    path = write_checkpoint(
        tmp_path, 3, {"weight": first, **optimizer_tensors(whole)}, facts={}, keep=1
    )
    load_optimizer(other, read_checkpoint(path)[1])
    for _ in range(2):
        step(whole, first)
        step(other, second)
    assert torch.equal(first, second)
