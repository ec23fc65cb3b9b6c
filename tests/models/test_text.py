import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline

from gridctl.models.text import TextEncoders

pytestmark = pytest.mark.filterwarnings("ignore:.*torch_dtype.*:FutureWarning")

RED = "a red circle moving right on a black background"


@pytest.fixture(scope="module")
def encode(base: Any) -> Iterator[TextEncoders]:
    with base.text_encoders() as encoders, torch.inference_mode():
        yield encoders


def test_two_prompts_differ_in_both_outputs(encode: TextEncoders) -> None:
    """CLIP with a wrong end token pools the same vector for every prompt."""
    prompts = encode([RED, RED.replace("red", "blue")])
    embeds, pooled = prompts.embeds, prompts.pooled
    assert float((embeds[0] - embeds[1]).abs().max()) > 1e-3
    assert float((pooled[0] - pooled[1]).abs().max()) > 1e-3
    order = encode(["red circle", "circle red"]).pooled
    assert float((order[0] - order[1]).abs().max()) > 1e-4


def test_prompts_do_not_change_each_other(encode: TextEncoders) -> None:
    together = encode([RED, "a star"])
    alone = encode([RED])
    assert torch.allclose(together.embeds[:1], alone.embeds, atol=1e-5)
    assert torch.allclose(together.pooled[:1], alone.pooled, atol=1e-5)


@pytest.mark.parametrize("length", [40, 512])
@pytest.mark.parametrize("prompt", [RED, " ".join([RED] * 10)])
def test_embeddings_are_those_of_the_pipeline(base: Any, length: int, prompt: str) -> None:
    """At the built-in model's length and at FLUX.1's. CLIP reads 77 tokens at either."""
    pipeline = FluxPipeline.from_pretrained(
        base.folder, transformer=None, vae=None, torch_dtype=torch.float32
    )
    embeds, pooled, _ = pipeline.encode_prompt(prompt, None, max_sequence_length=length)
    with base.text_encoders(length) as encode, torch.inference_mode():
        ours = encode([prompt])
    assert ours.embeds.shape == (1, length, 128)
    assert torch.allclose(ours.embeds, embeds, atol=1e-5)
    assert torch.allclose(ours.pooled, pooled, atol=1e-5)


@pytest.mark.parametrize("limit", [512, None])
def test_flux_reads_512_tokens(base: Any, tmp_path: Path, limit: int | None) -> None:
    """Its T5 tokenizer says so; one that names no limit is taken for it."""
    (tmp_path / "tokenizer").symlink_to(base.folder / "tokenizer")
    shutil.copytree(base.folder / "tokenizer_2", tmp_path / "tokenizer_2")
    path = tmp_path / "tokenizer_2" / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["model_max_length"]
    path.write_text(json.dumps(config | ({"model_max_length": limit} if limit else {})))
    flux = replace(base, folder=tmp_path)
    assert flux.tokenizers().text_tokens == 512
    assert flux.tokenizers(64).text_tokens == 64


def test_the_length_is_the_bases_own_or_a_setting(base: Any, encode: TextEncoders) -> None:
    assert encode([RED]).embeds.shape == (1, 40, 128)
    assert encode([RED]).pooled.shape == (1, 64)
    with base.text_encoders(16) as short, torch.inference_mode():
        assert short([RED]).embeds.shape == (1, 16, 128)


def test_words_that_are_not_read_are_named(base: Any, encode: TextEncoders) -> None:
    assert encode.lost_words(RED) == ""
    assert encode.lost_words(" ".join(["red"] * 39)) == ""  # 40 with the end token
    assert encode.lost_words(" ".join(["red"] * 39 + ["green", "star"])) == "green star"
