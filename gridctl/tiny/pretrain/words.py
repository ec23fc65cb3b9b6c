"""The tokenizers of the built-in base: every word of the toy world is one token.

Other words fall apart into letters, so a prompt can hold anything, and `gridctl.models.text` knows
which of its words mean nothing to the model.
"""

from __future__ import annotations

import json
import string
from typing import get_args

import numpy as np
from tokenizers import Tokenizer, models, trainers
from transformers import CLIPTokenizer, T5TokenizerFast

from gridctl.geometry import Grid, Order
from gridctl.prompt import LAYOUTS, layout_prompt
from gridctl.tiny.captions import (
    clip_caption,
    collage_caption,
    sheet_caption,
    still_caption,
)
from gridctl.tiny.pretrain.model import CLIP_TOKENS, TEXT_TOKENS
from gridctl.tiny.scene import sample_scene

SCENES = 5_000  # enough to meet every wording many times


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
