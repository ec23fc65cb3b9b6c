import pytest


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor that has no bfloat16: these tests compare to the last bits."""
    monkeypatch.setattr("gridctl.train.setup.has_fast_bfloat16", lambda device: False)
