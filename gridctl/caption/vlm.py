"""The backend `vlm`: a vision-language model run here, through transformers' own classes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from gridctl.caption.clean import shorten
from gridctl.caption.question import Answers, Question, Reply
from gridctl.errors import GridctlError, UsageError
from gridctl.flux.base import quantization_config
from gridctl.machine.devices import pick_device, pick_dtype
from gridctl.machine.tokens import hub_token
from gridctl.profile import Profile
from gridctl.profile.schema import DEFAULT_VLM


@dataclass(frozen=True, kw_only=True)
class VlmDescriber:
    """An image-text-to-text model of transformers and its processor, `batch` grids at once."""

    model: str
    network: Any
    processor: Any
    batch: int = 4
    max_tokens: int = 1024

    backend = "vlm"

    def describe(self, questions: Iterator[Question]) -> Answers:
        """Each question with its answer, in order; a broken image fails alone."""
        while batch := list(islice(questions, self.batch)):
            messages, asked = [], []
            for question in batch:
                try:
                    messages.append(_message(question))
                    asked.append(question)
                except GridctlError as error:
                    yield question, error
            if asked:
                yield from zip(asked, self._answers_or_errors(messages), strict=True)

    def _answers_or_errors(self, messages: Sequence[Any]) -> Sequence[Reply | GridctlError]:
        """What a processor refuses, such as a picture of extreme proportions, fails alone."""
        try:
            return self._answers(messages)
        except ValueError as error:
            if len(messages) == 1:
                reason = shorten(str(error), 120).rstrip(".")
                return [GridctlError(f"{self.model} cannot take it ({reason}); try another view.")]
        return [self._answers_or_errors([message])[0] for message in messages]

    @torch.inference_mode()
    def _answers(self, messages: Sequence[Any]) -> list[Reply]:
        texts = [
            self.processor.apply_chat_template(m, add_generation_prompt=True) for m in messages
        ]
        tokenizer = self.processor.tokenizer
        tokenizer.padding_side = "left"  # answers begin where questions end
        has_start = bool(tokenizer.bos_token) and texts[0].startswith(tokenizer.bos_token)
        inputs = self.processor(
            text=texts,
            images=[
                [part["image"] for part in m[0]["content"] if "image" in part] for m in messages
            ],
            padding=True,
            return_tensors="pt",
            add_special_tokens=not has_start,
        ).to(self.network.device, self.network.dtype)
        output = self.network.generate(
            **inputs, max_new_tokens=self.max_tokens, do_sample=False, temperature=None, top_p=None
        )
        ends = _end_tokens(self.network)
        # Some templates begin the answer themselves: with a thought, which is no caption.
        begun = "<think>" if texts[0].rstrip().endswith("<think>") else ""
        replies = []
        for row in output[:, inputs["input_ids"].shape[1] :].tolist():
            text = begun + self.processor.decode(row, skip_special_tokens=True)
            finished = len(row) < self.max_tokens or bool(ends & set(row))
            replies.append(Reply(text=text, finished=finished))
        return replies


def open_vlm(profile: Profile) -> VlmDescriber:
    """Load the profile's caption.model in its memory preset's precision; no remote code.

    Raises UsageError where a package is missing or the device is not there, GridctlError for
    a model that cannot be had or loaded.
    """
    settings, memory = profile.caption, profile.memory
    name = settings.model or DEFAULT_VLM
    device = pick_device(memory.device)
    _check_torchvision()
    dtype = pick_dtype(profile.model.dtype, device)
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
    # With offload, layers that the card has no room for wait in main memory.
    options["device_map"] = "auto" if memory.offload == "group" else {"": device}
    if memory.quantize != "none":
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = quantization_config(
            BitsAndBytesConfig, memory.quantize, dtype
        )
    where = {"revision": settings.revision, "token": hub_token(), "trust_remote_code": False}
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        processor = AutoProcessor.from_pretrained(name, **where)
        network = AutoModelForImageTextToText.from_pretrained(name, **where, **options)
    except Exception as error:  # what a model's files can be wrong in has no common kind
        reason = shorten(str(error) or type(error).__name__, 200).rstrip(".")
        raise GridctlError(
            f"{name} cannot be loaded as a vision-language model: {reason}. Name a Hub id or a "
            "folder of one that transformers knows with --model."
        ) from error
    if not getattr(processor, "chat_template", None):
        raise GridctlError(
            f"{name} has no chat template, so it cannot be asked; take an instruction-tuned model."
        )
    return VlmDescriber(
        model=name,
        network=network.eval(),
        processor=processor,
        batch=settings.batch,
        max_tokens=settings.max_tokens,
    )


def _message(question: Question) -> list[dict[str, Any]]:
    pictures = [{"type": "image", "image": picture} for picture in question.pictures()]
    return [{"role": "user", "content": [*pictures, {"type": "text", "text": question.text}]}]


def _end_tokens(network: Any) -> set[int]:
    ends = network.generation_config.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends}


def _check_torchvision() -> None:
    """Processors want it: say so before gigabytes are loaded."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        raise UsageError(
            "the backend vlm needs torchvision, which is not installed; pip install 'gridctl[vlm]'."
        ) from None
    except RuntimeError as error:
        raise UsageError(
            f"torchvision does not fit PyTorch {torch.__version__} ({shorten(str(error), 80)}); "
            "install the one from where PyTorch came."
        ) from None
