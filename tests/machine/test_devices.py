"""Settings of PyTorch's memory allocator."""

import os

import pytest

from gridctl.machine.devices import grow_segments

NAMES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


@pytest.mark.parametrize("chosen", [None, *NAMES])
def test_the_allocator_grows_its_segments_unless_the_user_chose(
    monkeypatch: pytest.MonkeyPatch, chosen: str | None
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that what the code sets is taken back
        monkeypatch.delenv(name)
    if chosen:
        monkeypatch.setenv(chosen, "max_split_size_mb:64")
    grow_segments()
    found = {name: os.environ[name] for name in NAMES if name in os.environ}
    if chosen:
        assert found == {chosen: "max_split_size_mb:64"}
    else:
        assert found == {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
