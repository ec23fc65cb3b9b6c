import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from gridctl.errors import GridctlError, InputError
from gridctl.train.checkpoint import (
    list_checkpoints,
    load_optimizer,
    optimizer_tensors,
    read_checkpoint,
    write_checkpoint,
)


def write(folder: Path, step: int, *, keep: int = 2) -> Path:
    tensors = {"weight": torch.full((3,), float(step)), "half": torch.ones(2, dtype=torch.half)}
    return write_checkpoint(folder, step, tensors, metadata={"log": "[1]"}, keep=keep)


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
    assert names == ["step-999999.safetensors", "step-1000000.safetensors"]


@contextmanager
def full_disk() -> Iterator[None]:
    """This process can write no file of more than 4 KB.

    It ends within the test: pytest's own report may go to a file that is longer.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_is_whole_or_absent(tmp_path: Path) -> None:
    """Where the disk takes no more, all old checkpoints stay, readable."""
    write(tmp_path, 1, keep=1)
    large = {"weight": torch.zeros(100_000)}
    unwritten = pytest.raises(InputError, match=r"step-000002\.safetensors cannot be written")
    with full_disk(), unwritten as error:
        write_checkpoint(tmp_path, 2, large, metadata={}, keep=1)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001.safetensors"]
    assert read_checkpoint(list_checkpoints(tmp_path)[-1])[0] == 1


def test_leftovers_of_a_killed_writer(tmp_path: Path) -> None:
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


def adamw(parameters: list[Any]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=0.1)


def fused_adamw(parameters: list[Any]) -> torch.optim.Optimizer:
    """What a GPU has; it runs on a CPU, too."""
    return torch.optim.AdamW(parameters, lr=0.1, fused=True)


def momentum(parameters: list[Any]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9)


def adamw8bit(parameters: list[Any]) -> torch.optim.Optimizer:
    from bitsandbytes.optim import AdamW8bit

    optimizer: torch.optim.Optimizer = AdamW8bit(parameters, lr=0.1)
    return optimizer


def lbfgs(parameters: list[Any]) -> torch.optim.Optimizer:
    """Its state has lists, numbers and None."""
    return torch.optim.LBFGS(parameters, lr=0.1, max_iter=3)


@pytest.mark.parametrize("make", [adamw, fused_adamw, momentum, adamw8bit, lbfgs])
def test_an_optimizer_resumes_to_the_same_bits(
    make: Callable[[list[Any]], torch.optim.Optimizer], tmp_path: Path
) -> None:
    def step(optimizer: torch.optim.Optimizer, weights: list[torch.Tensor]) -> None:
        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            large, small = weights
            error = (large * torch.linspace(0, 1, 5000).reshape(50, 100)).square().mean()
            error = error + (small - 2).square().sum()
            error.backward()  # type: ignore[no-untyped-call]
            return error

        if isinstance(optimizer, torch.optim.LBFGS):
            optimizer.step(loss)
        else:
            loss()
            optimizer.step()

    first = [torch.ones(50, 100, requires_grad=True), torch.ones(3, requires_grad=True)]
    whole = make(first)
    for _ in range(3):
        step(whole, first)
    second = [weight.detach().clone().requires_grad_() for weight in first]
    other = make(second)
    path = write_checkpoint(tmp_path, 3, optimizer_tensors(whole), metadata={}, keep=1)
    load_optimizer(other, read_checkpoint(path)[1])
    assert_same(other.state_dict()["state"], whole.state_dict()["state"])
    for _ in range(3):
        step(whole, first)
        step(other, second)
    for mine, theirs in zip(first, second, strict=True):
        assert torch.equal(mine, theirs)


def test_states_that_share_a_tensor_are_saved(tmp_path: Path) -> None:
    """8-bit AdamW has one quantisation map for all weights of 4,096 numbers or more."""
    weights = [torch.ones(64, 64 + k, requires_grad=True) for k in range(3)]
    optimizer = adamw8bit(weights)
    sum(weight.square().sum() for weight in weights).backward()  # type: ignore[union-attr]
    optimizer.step()
    states = optimizer.state_dict()["state"]
    tensors = optimizer_tensors(optimizer)
    assert len({tensor.data_ptr() for tensor in tensors.values()}) < len(tensors)
    path = write_checkpoint(tmp_path, 1, tensors, metadata={}, keep=1)
    other = adamw8bit([weight.detach().clone().requires_grad_() for weight in weights])
    load_optimizer(other, read_checkpoint(path)[1])
    assert_same(other.state_dict()["state"], states)


def test_a_fused_optimizer_resumes_a_plain_one(tmp_path: Path) -> None:
    """So that a run from a CPU, or an older version, goes on on a GPU: equal within rounding."""
    first = torch.ones(50, 100, requires_grad=True)
    plain = adamw([first])
    (first * torch.linspace(0, 1, 100)).square().sum().backward()
    plain.step()
    second = first.detach().clone().requires_grad_()
    fused = fused_adamw([second])
    path = write_checkpoint(tmp_path, 1, optimizer_tensors(plain), metadata={}, keep=1)
    load_optimizer(fused, read_checkpoint(path)[1])
    for optimizer, weight in ((plain, first), (fused, second)):
        for _ in range(3):
            optimizer.zero_grad()
            (weight * torch.linspace(0, 1, 100)).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(second, first, rtol=1e-5, atol=1e-6)


def assert_same(one: Any, other: Any) -> None:
    """Equal in every value, and of the same types at every depth."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            assert_same(mine, theirs)
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    else:
        assert one == other


class Odd(torch.optim.SGD):
    """An optimizer with the state that a test gives it."""

    def __init__(self, state: Any) -> None:
        self.weight = torch.zeros(1, requires_grad=True)
        super().__init__([self.weight], lr=0.1)
        self.state[self.weight] = state


def test_state_of_any_nesting_survives(tmp_path: Path) -> None:
    state = {
        "a": {"b": [torch.ones(2), {"c": (1, 2.5, None)}], 1: torch.zeros(1), "1": torch.ones(1)},
        "a.b": 7,
        "flag": True,
        "empty": {},
        "nan": float("inf"),
    }
    path = write_checkpoint(tmp_path, 1, optimizer_tensors(Odd(state)), metadata={}, keep=1)
    back = Odd({})
    load_optimizer(back, read_checkpoint(path)[1])
    assert_same(back.state_dict()["state"][0], state)


def test_a_checkpoint_of_an_older_gridctl_is_one_line() -> None:
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    with pytest.raises(InputError, match="of an older gridctl and cannot be resumed; --force"):
        load_optimizer(optimizer, {"optimizer.0.exp_avg": torch.zeros(2, 2)})


def test_a_state_that_cannot_be_saved_is_named() -> None:
    with pytest.raises(GridctlError, match=r"optimizer\.0\.x\.y of the .*type object.*adamw"):
        optimizer_tensors(Odd({"x": {"y": object()}}))
