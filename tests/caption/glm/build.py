"""A GLM-4.1V-class model of some thousand parameters that tells red pictures from blue ones.

python build.py FOLDER: its real config, model, processor and tokenizer classes, trained on the
spot for some seconds, saved as any such model is.
"""

import sys

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from with_torchvision import import_torchvision

import_torchvision()

from transformers import (  # noqa: E402
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    Glm4vImageProcessor,
    Glm4vProcessor,
    Glm4vVideoProcessor,
    PreTrainedTokenizerFast,
)

SPECIAL = [
    *("<|endoftext|>", "[gMASK]", "<sop>", "<|user|>", "<|assistant|>"),
    *("<|begin_of_image|>", "<|end_of_image|>", "<|image|>"),
    *("<|begin_of_video|>", "<|end_of_video|>", "<|video|>"),
]
ANSWERS = {
    (220, 20, 20): "<think> It is red . </think> <answer> A red picture . It stays red . </answer>",
    (
        20,
        20,
        220,
    ): "<think> It is blue . </think> <answer> A blue picture . It stays blue . </answer>",
}
TEMPLATE = """[gMASK]<sop>
{%- for message in messages -%}
<|user|>
{%- for part in message.content -%}
{%- if part.type == 'image' -%}<|begin_of_image|><|image|><|end_of_image|>
{%- elif part.type == 'text' -%} {{ part.text }}
{%- endif -%}
{%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"""


def make_tokenizer() -> PreTrainedTokenizerFast:
    words = sorted({word for answer in ANSWERS.values() for word in answer.split()})
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, "[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)  # blanks between words
    tokenizer.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        unk_token="[UNK]",
        extra_special_tokens={"image_token": "<|image|>", "video_token": "<|video|>"},
    )


def make_processor(tokenizer: PreTrainedTokenizerFast) -> Glm4vProcessor:
    size = {"shortest_edge": 2 * 8 * 8, "longest_edge": 2 * 16 * 16}
    patches = {"patch_size": 4, "temporal_patch_size": 2, "merge_size": 2, "size": size}
    return Glm4vProcessor(
        image_processor=Glm4vImageProcessor(**patches),
        tokenizer=tokenizer,
        video_processor=Glm4vVideoProcessor(**patches),
        chat_template=TEMPLATE,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> Glm4vForConditionalGeneration:
    ids = tokenizer.convert_tokens_to_ids
    config = Glm4vConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [2, 3, 3],
            },
            "eos_token_id": ids("<|endoftext|>"),
            "pad_token_id": ids("<|endoftext|>"),
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "num_heads": 1,
            "image_size": 16,
            "patch_size": 4,
            "intermediate_size": 16,
            "out_hidden_size": 32,
        },
        image_token_id=ids("<|image|>"),
        video_token_id=ids("<|video|>"),
        image_start_token_id=ids("<|begin_of_image|>"),
        image_end_token_id=ids("<|end_of_image|>"),
        video_start_token_id=ids("<|begin_of_video|>"),
        video_end_token_id=ids("<|end_of_video|>"),
    )
    torch.manual_seed(0)
    return Glm4vForConditionalGeneration(config)


def main(folder: str) -> None:
    tokenizer = make_tokenizer()
    processor = make_processor(tokenizer)
    model = make_model(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    rng = np.random.default_rng(0)
    low = 0
    for _ in range(1000):
        colours = [list(ANSWERS)[k] for k in rng.integers(0, 2, 4)]
        pictures = [
            Image.fromarray(np.clip(rng.normal(c, 20, (16, 16, 3)), 0, 255).astype(np.uint8))
            for c in colours
        ]
        count = int(rng.integers(1, 4))  # of pictures in a question
        words = "what " * int(rng.integers(50, 110))  # no word of the question is in its vocabulary
        question = [{"type": "image"}] * count + [{"type": "text", "text": words}]
        prompt = processor.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True
        )
        texts = [f"{prompt} {ANSWERS[c]} <|endoftext|>" for c in colours]
        inputs = processor(
            text=texts, images=[[p] * count for p in pictures], padding=True, return_tensors="pt"
        )
        labels = inputs["input_ids"].clone()
        start = int((labels[0] == tokenizer.convert_tokens_to_ids("<|assistant|>")).nonzero()[-1])
        labels[:, : start + 1] = -100
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        low = low + 1 if loss.item() < 0.01 else 0
        if low == 20:
            break
    assert low == 20, f"it has not learned: loss {loss.item():.4f}"
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


if __name__ == "__main__":
    main(sys.argv[1])
