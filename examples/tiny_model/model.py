"""The parts of the built-in base: FLUX.1's classes and folder layout, in miniature.

Sizes are chosen so that everything fits 16 MB in 16 bits, and so that a 4x6 grid of 64x64
pixel cells (384 image tokens) trains at a second or two a step at batch 16 on two CPU cores:
1.7 s in float32; a processor with bfloat16 instructions is several times faster.

In the tokenizers every word of the toy world is one token. Other words fall apart into letters, so
a prompt can hold anything, and `gridctl.tiny.vocabulary` knows which words mean nothing.
"""

from __future__ import annotations

import json
import shutil
import string
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from safetensors.torch import load_model
from tokenizers import Tokenizer, models, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from gridctl.files import atomic_folder
from gridctl.geometry import Grid, Order
from gridctl.models.flux1 import TextEncoders
from gridctl.prompt import LAYOUTS, layout_prompt
from gridctl.tiny.captions import clip_caption, collage_caption, sheet_caption, still_caption
from gridctl.tiny.scene import sample_scene

TEXT_WIDTH = 128  # T5's, what the transformer reads word by word
POOLED_WIDTH = 64  # CLIP's, one vector for the whole prompt
TEXT_TOKENS = 40  # T5's length: the longest layout prompt and content of the toy world, and some
CLIP_TOKENS = 77  # CLIP's, in every FLUX
SCENES = 5_000  # of which the words are taken: enough to meet every wording many times
STORED = torch.float16  # half the size; the VAE's weights are small numbers, which bf16 blurs


def build_transformer() -> FluxTransformer2DModel:
    """2 double and 6 single blocks of width 160, with guidance embedding."""
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=2,
        num_single_layers=6,
        attention_head_dim=32,
        num_attention_heads=5,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=POOLED_WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(4, 14, 14),
    )


def build_vae() -> AutoencoderKL:
    """16 latent channels, factor 8; its first weights come from `codec.prepare_vae`."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(24, 48, 64, 64),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=1,
        sample_size=64,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=True,
    )


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """FLUX.1-dev's own, with its dynamic shift."""
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )


def build_clip(*, vocab_size: int, bos: int, eos: int, pad: int) -> CLIPTextModel:
    """One layer. The end token must be the tokenizer's own: CLIP pools where it stands."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=POOLED_WIDTH,
            intermediate_size=4 * POOLED_WIDTH,
            projection_dim=POOLED_WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=CLIP_TOKENS,
            bos_token_id=bos,
            eos_token_id=eos,
            pad_token_id=pad,
        )
    )


def build_t5(*, vocab_size: int, eos: int, pad: int) -> T5EncoderModel:
    """Two layers."""
    return T5EncoderModel(
        T5Config(
            vocab_size=vocab_size,
            d_model=TEXT_WIDTH,
            d_kv=32,
            d_ff=2 * TEXT_WIDTH,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            eos_token_id=eos,
            pad_token_id=pad,
            decoder_start_token_id=pad,
            is_encoder_decoder=False,
            use_cache=False,
        )
    )


def world_words() -> list[str]:
    """Every word in the toy world's captions and in layout prompts, sorted."""
    rng = np.random.default_rng(0)
    texts = [
        layout_prompt(Grid(rows=4, cols=6, cell=(16, 16), order=order), template)
        for order in get_args(Order)
        for template in (LAYOUTS["video"], LAYOUTS["turn"])  # what the toy world has
    ]
    for _ in range(SCENES):
        scene = sample_scene(rng, held_out=None)
        texts += [
            clip_caption(scene, rng),
            still_caption(scene, rng),
            collage_caption([scene], rng),
            sheet_caption(scene, 2, rng),
        ]
    words = {word.strip(string.punctuation) for text in texts for word in text.lower().split()}
    return sorted(word for word in words if word and not word[0].isdigit())


def build_clip_tokenizer(words: list[str]) -> CLIPTokenizer:
    """CLIP's: byte pairs, merged until each word is one token."""
    trainer = trainers.BpeTrainer(
        vocab_size=30_000,  # never reached: the words run out first
        min_frequency=1,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=list(string.printable.strip()),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bare = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bare.pre_tokenizer = CLIPTokenizer().backend_tokenizer.pre_tokenizer
    bare.train_from_iterator([" ".join(words), " ".join(string.printable.strip())], trainer)
    learned = json.loads(bare.to_str())["model"]
    return CLIPTokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],
        model_max_length=CLIP_TOKENS,
    )


def build_t5_tokenizer(words: list[str]) -> T5TokenizerFast:
    """T5's: a unigram model in which a whole word is always cheaper than its letters."""
    whole = [form for word in words for form in (word, word.capitalize())]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -12.0)]
    pieces += [(f"▁{word}", -4.0) for word in dict.fromkeys(whole)]
    pieces += [(letter, -10.0) for letter in string.printable.strip()]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=TEXT_TOKENS)


def lowercase_twins(tokenizer: T5TokenizerFast) -> list[tuple[int, int]]:
    """(capitalised, lower-case) token ids. Training sees lower case only; the twins get its
    embeddings afterwards, because T5's tokenizer keeps capitals apart."""
    vocabulary = tokenizer.get_vocab()
    return [
        (index, vocabulary[piece.lower()])
        for piece, index in vocabulary.items()
        if piece != piece.lower() and piece.lower() in vocabulary
    ]


def build_text(folder: Path) -> Any:
    """Both text encoders, untrained, with their tokenizers.

    CLIP's is built once and stored in `folder`: tied byte pairs come in a different order in each
    process, and a resumed run must number its words as before.
    """
    words = world_words()
    kept = folder / "clip_tokenizer"
    if not kept.exists():
        with atomic_folder(kept, force=False) as temporary:
            build_clip_tokenizer(words).save_pretrained(temporary)
    clip_tokenizer, t5_tokenizer = CLIPTokenizer.from_pretrained(kept), build_t5_tokenizer(words)
    return TextEncoders(
        clip_tokenizer=clip_tokenizer,
        clip=build_clip(
            vocab_size=len(clip_tokenizer),
            bos=clip_tokenizer.bos_token_id,
            eos=clip_tokenizer.eos_token_id,
            pad=clip_tokenizer.pad_token_id,
        ),
        t5_tokenizer=t5_tokenizer,
        t5=build_t5(
            vocab_size=len(t5_tokenizer),
            eos=t5_tokenizer.eos_token_id,
            pad=t5_tokenizer.pad_token_id,
        ),
        text_tokens=TEXT_TOKENS,
    )


def load_start(start: Path, folder: Path) -> tuple[Any, Any]:
    """The transformer and the text encoders of an earlier result."""
    kept = folder / "clip_tokenizer"
    if not kept.exists():
        with atomic_folder(kept, force=False) as temporary:
            shutil.copytree(start / "tokenizer", temporary, dirs_exist_ok=True)
    transformer, text = build_transformer(), build_text(folder)
    parts = {
        "transformer/diffusion_pytorch_model": transformer,
        "text_encoder/model": text.clip,
        "text_encoder_2/model": text.t5,
    }
    for name, model in parts.items():
        load_model(model, start / f"{name}.safetensors")
    return transformer, text


def export_base(folder: Path, *, transformer: Any, vae: Any, text: TextEncoders) -> None:
    """Save the whole pipeline into `folder`, in 16 bits, overwriting it."""
    with torch.no_grad():
        table = text.t5.get_input_embeddings().weight
        for capitalised, lower in lowercase_twins(text.t5_tokenizer):
            table[capitalised] = table[lower]
    for tokenizer in (text.clip_tokenizer, text.t5_tokenizer):
        # A tokenizer would store the length of its last call.
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    pipeline = FluxPipeline(
        scheduler=build_scheduler(),
        vae=vae.to(STORED),
        text_encoder=text.clip.to(STORED),
        tokenizer=text.clip_tokenizer,
        text_encoder_2=text.t5.to(STORED),
        tokenizer_2=text.t5_tokenizer,
        transformer=transformer.to(STORED),
    )
    with atomic_folder(folder, force=True) as temporary:
        pipeline.save_pretrained(temporary, safe_serialization=True)
