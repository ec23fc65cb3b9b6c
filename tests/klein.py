"""A FLUX.2-klein with random weights in diffusers' folder layout: 1 MB, made in seconds."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2Transformer2DModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen2TokenizerFast, Qwen3Config, Qwen3ForCausalLM

WIDTH = 32  # of the transformer and of Qwen3
SCHEDULER = {
    "base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15,
    "shift": 3.0, "use_dynamic_shifting": True,
}  # fmt: skip
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_TEMPLATE = """\
{%- for message in messages -%}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor -%}{%- if add_generation_prompt -%}<|im_start|>assistant
{% if not enable_thinking -%}<think></think>{%- endif -%}{%- endif -%}"""
_CORPUS = (
    "A 2x3 grid of video frames in reading order, showing one continuous clip. user assistant",
    "a red circle moving right on a black background, a small blue star turning left on white",
    "the green square grows from frame to frame, yellow triangle, gray, orange, purple, slowly",
)


def make_klein(folder: Path, *, distilled: bool = False) -> None:
    """Write a whole pipeline; the same weights whether `distilled` or not."""
    torch.manual_seed(11)
    make_transformer().save_pretrained(folder / "transformer")
    make_vae().save_pretrained(folder / "vae")
    make_qwen().save_pretrained(folder / "text_encoder")
    make_tokenizer(folder / "tokenizer")
    FlowMatchEulerDiscreteScheduler(**SCHEDULER).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "Flux2KleinPipeline",
        "_diffusers_version": "0.42.1",
        "is_distilled": distilled,
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "Qwen3ForCausalLM"],
        "tokenizer": ["transformers", "Qwen2TokenizerFast"],
        "transformer": ["diffusers", "Flux2Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKLFlux2"],
    }
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")


def make_transformer() -> Flux2Transformer2DModel:
    return Flux2Transformer2DModel(
        in_channels=128,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=WIDTH // 16,
        joint_attention_dim=3 * WIDTH,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )


def make_vae() -> AutoencoderKLFlux2:
    """Its batch norm shifts and scales each channel in its own way."""
    vae = AutoencoderKLFlux2(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=2)
    vae.bn.running_mean.copy_(torch.linspace(-0.5, 0.7, 128))
    vae.bn.running_var.copy_(torch.linspace(0.2, 2.5, 128))
    return vae


def make_qwen() -> Qwen3ForCausalLM:
    """30 layers, of which the third of the states that are read is not the last."""
    config = Qwen3Config(
        vocab_size=600,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=30,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=0,
    )
    qwen = Qwen3ForCausalLM(config)
    with torch.no_grad():  # with transformers' first weights, all prompts look alike
        for weight in qwen.parameters():
            if weight.ndim == 2:
                weight.normal_(std=weight.shape[1] ** -0.5)
    return qwen


def make_tokenizer(folder: Path) -> None:
    """A byte-level BPE of 600 tokens at most, with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(_SPECIAL),
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    bpe = json.loads(tokenizer.to_str())["model"]
    own = Qwen2TokenizerFast(
        vocab=bpe["vocab"],
        merges=[tuple(pair) for pair in bpe["merges"]],
        pad_token=_SPECIAL[0],
        eos_token=_SPECIAL[2],
        additional_special_tokens=list(_SPECIAL[1:]),
        chat_template=_TEMPLATE,
    )
    own.save_pretrained(folder)
