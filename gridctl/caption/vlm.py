"""The backend `vlm`: a vision-language model on this machine, through transformers' classes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from gridctl.caption.clean import open_thought, shorten
from gridctl.caption.question import Answers, Question, Reply
from gridctl.errors import GridctlError, UsageError
from gridctl.machine.devices import pick_device, pick_dtype
from gridctl.machine.hub import hub_token
from gridctl.machine.quiet import quiet_plugins
from gridctl.models.quantization import quantization_config
from gridctl.profile import DEFAULT_VLM, CaptionSection, Profile


@dataclass(frozen=True, kw_only=True)
class VlmDescriber:
    """An image-text-to-text model of transformers with its processor.

    `settings` has the batch size in grids and `max_tokens`, the limit of an answer.
    """

    model: str
    network: Any
    processor: Any
    settings: CaptionSection

    backend = "vlm"

    def describe(self, questions: Iterator[Question]) -> Answers:
        """Each question with its answer, in order. A broken image fails only itself."""
        while batch := list(islice(questions, self.settings.batch)):
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
        """One reply per message. A picture that the processor refuses fails only itself."""
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
        limit = self.settings.max_tokens
        output = self.network.generate(
            **inputs, max_new_tokens=limit, do_sample=False, temperature=None, top_p=None
        )
        ends = _end_tokens(self.network)
        begun = open_thought(texts[0])
        # Not skip_special_tokens: in some models the marks of a thought are special tokens.
        padding = {tokenizer.pad_token, tokenizer.eos_token} - {None}
        replies = []
        for row in output[:, inputs["input_ids"].shape[1] :].tolist():
            text = begun + self.processor.decode(row, skip_special_tokens=False)
            for token in padding:
                text = text.replace(token, " ")
            finished = len(row) < limit or bool(ends & set(row))
            replies.append(Reply(text=text, finished=finished))
        return replies


def open_vlm(profile: Profile) -> VlmDescriber:
    """Load the profile's caption.model in the precision of its memory preset.

    Remote code is never run. Raises UsageError if a package or the device is missing,
    GridctlError for a model that cannot be loaded.
    """
    quiet_plugins()
    settings, memory = profile.caption, profile.memory
    name = settings.model or DEFAULT_VLM
    device = pick_device(memory.device)
    _check_torchvision()
    dtype = pick_dtype(profile.model.dtype, device)
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
    # With offload, layers that do not fit on the GPU stay in main memory.
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
    except Exception as error:  # broken model files raise anything
        reason = shorten(str(error) or type(error).__name__, 200).rstrip(".")
        raise GridctlError(
            f"{name} cannot be loaded as a vision-language model: {reason}. Name a Hub id or a "
            "folder of one that transformers knows with --model."
        ) from error
    if not getattr(processor, "chat_template", None):
        raise GridctlError(
            f"{name} has no chat template, so it cannot be asked; use an instruction-tuned model."
        )
    return VlmDescriber(
        model=name,
        network=network.eval(),
        processor=processor,
        settings=settings,
    )


def _message(question: Question) -> list[dict[str, Any]]:
    pictures = [{"type": "image", "image": picture} for picture in question.pictures()]
    return [{"role": "user", "content": [*pictures, {"type": "text", "text": question.text}]}]


def _end_tokens(network: Any) -> set[int]:
    ends = network.generation_config.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends}


def _check_torchvision() -> None:
    """Processors need torchvision: fail before gigabytes are loaded."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        raise UsageError(
            "the backend vlm needs torchvision, which is not installed; "
            "pip install torchvision, from the same index as PyTorch."
        ) from None
    except RuntimeError as error:
        raise UsageError(
            f"torchvision does not fit PyTorch {torch.__version__} ({shorten(str(error), 80)}); "
            "install both from the same package index."
        ) from None
