"""The token comes from the environment, then from .env."""

from pathlib import Path

import pytest

from gridctl.machine.hub import hub_token


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("HF_TOKEN=abc\n", "abc"),
        ("OTHER=1\n export HF_TOKEN = 'abc' \n", "abc"),
        ('HF_TOKEN="abc"', "abc"),
        ("#HF_TOKEN=abc\nMY_HF_TOKEN=abc\nHF_TOKEN\n", None),
        ("HF_TOKEN=\n", None),
        ("\ufeffHF_TOKEN=abc\n", "abc"),
        ("HF_TOKEN=abc # of my account\n", "abc"),
        ("a line that is no setting\nOTHER='open\nHF_TOKEN=abc\n", "abc"),
    ],
)
def test_token_from_env_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    text: str,
    token: str | None,
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert hub_token(tmp_path) is None
    (tmp_path / ".env").write_text(text, encoding="utf-8")
    assert hub_token(tmp_path) == token
    monkeypatch.setenv("HF_TOKEN", "from the environment")
    assert hub_token(tmp_path) == "from the environment"
    assert caplog.text == ""


def test_token_from_an_env_file_of_powershell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (tmp_path / ".env").write_text("HF_TOKEN=hf_x\r\n", encoding="utf-16")
    assert hub_token(tmp_path) == "hf_x"
    (tmp_path / ".env").write_bytes(b"HF_TOKEN=\xff\xff")
    assert hub_token(tmp_path) is None
