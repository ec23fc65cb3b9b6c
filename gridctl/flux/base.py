"""A base model: where it is, and its parts, each loaded when its turn comes.

FLUX.1's parts never need to be in memory together: prompts are encoded, then the encoders
go, then the transformer draws, then the VAE decodes. So each part is loaded on its own and
the caller lets it go.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from gridctl.errors import GridctlError, InputError, UsageError
from gridctl.flux.text import TextEncoders
from gridctl.machine.devices import pick_device, pick_dtype
from gridctl.machine.tokens import hub_token
from gridctl.profile import BUILT_IN, Profile
from gridctl.toyworld.weights import BASE_FOLDER

# Of a Hub repository only diffusers' folders: FLUX.1-dev has the same 24 GB a second time.
_HUB_FILES = ("model_index.json", *(f"{part}/*.{suffix}" for part in (
    "scheduler", "tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2", "transformer", "vae",
) for suffix in ("json", "txt", "model", "safetensors")))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A FLUX.1 pipeline in diffusers' folder layout, and how its parts are to be loaded."""

    name: str
    folder: Path
    device: torch.device
    dtype: torch.dtype
    quantize: str
    offload: str

    @cached_property
    def transformer_config(self) -> dict[str, Any]:
        return self._config("transformer/config.json")

    @cached_property
    def scheduler_config(self) -> dict[str, Any]:
        return self._config("scheduler/scheduler_config.json")

    @property
    def is_distilled(self) -> bool:
        """Whether it was distilled to a few steps (schnell): it then takes no guidance."""
        return not self.transformer_config.get("guidance_embeds")

    @property
    def latent_channels(self) -> int:
        return int(self.transformer_config["in_channels"]) // 4

    @contextmanager
    def text_encoders(self, text_tokens: int | None = None) -> Iterator[TextEncoders]:
        """CLIP and T5; `text_tokens` None takes the length that the base was trained with."""
        from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

        with _loading(self.name):
            t5_tokenizer = T5TokenizerFast.from_pretrained(self.folder / "tokenizer_2")
            encoders = TextEncoders(
                clip_tokenizer=CLIPTokenizer.from_pretrained(self.folder / "tokenizer"),
                clip=self._encoder(CLIPTextModel, "text_encoder"),
                t5_tokenizer=t5_tokenizer,
                t5=self._encoder(T5EncoderModel, "text_encoder_2"),
                text_tokens=text_tokens or min(512, t5_tokenizer.model_max_length),
            )
        yield encoders
        del encoders
        self._free()

    @contextmanager
    def vae(self) -> Iterator[Any]:
        """In float32: it is small beside the transformer, and frames keep their bits."""
        from diffusers import AutoencoderKL

        with _loading(self.name):
            vae = AutoencoderKL.from_pretrained(
                self.folder / "vae", torch_dtype=torch.float32, use_safetensors=True
            )
        yield vae.to(self.device).eval().requires_grad_(False)
        del vae
        self._free()

    def load_transformer(self, *, training: bool = False) -> Any:
        """The transformer, frozen, on its device; quantised and offloaded as the profile says.

        Raises UsageError for offload with training: the layers' copies in main memory
        would overwrite what was learned.
        """
        from diffusers import FluxTransformer2DModel

        if training and self.offload == "group":
            raise UsageError(
                'memory.offload = "group" is for generating only; train with "none", and '
                'a quantised base (memory.quantize = "nf4") where memory is short.'
            )
        options: dict[str, Any] = {"torch_dtype": self.dtype, "use_safetensors": True}
        if self.quantize != "none":
            from diffusers import BitsAndBytesConfig

            options["quantization_config"] = quantization_config(
                BitsAndBytesConfig, self.quantize, self.dtype
            )
        with _loading(self.name):
            transformer = FluxTransformer2DModel.from_pretrained(
                self.folder / "transformer", **options
            )
        transformer.requires_grad_(False)
        if self.offload == "group" and self.device.type != "cpu":
            transformer.enable_group_offload(
                onload_device=self.device,
                offload_device=torch.device("cpu"),
                offload_type="leaf_level",
                use_stream=True,
            )
            return transformer
        return transformer.to(self.device) if self.quantize == "none" else transformer

    def fingerprint(self, *parts: str) -> str:
        """A hash of the files in these sub-folders: the same weights, the same hash."""
        digest = hashlib.sha256()
        for part in parts:
            for path in sorted((self.folder / part).rglob("*")):
                if path.is_file():
                    digest.update(f"{path.relative_to(self.folder)}\0{file_hash(path)}\n".encode())
        return digest.hexdigest()

    def _config(self, name: str) -> dict[str, Any]:
        with _loading(self.name):
            config = json.loads((self.folder / name).read_text(encoding="utf-8"))
        return dict(config)

    def _encoder(self, model_class: Any, part: str) -> Any:
        model = model_class.from_pretrained(
            self.folder / part, dtype=self.dtype, use_safetensors=True
        )
        return model.to(self.device).eval().requires_grad_(False)

    def _free(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def open_base(profile: Profile) -> BaseModel:
    """Find the profile's base model; a Hub model is downloaded (weights as safetensors only).

    Raises UsageError for a device or folder that is not there, GridctlError for a Hub
    model that cannot be had.
    """
    quiet_libraries()
    name, memory = profile.model.base, profile.memory
    device = pick_device(memory.device)
    return BaseModel(
        name=name,
        folder=_find(name, profile.model.revision),
        device=device,
        dtype=pick_dtype(profile.model.dtype, device),
        quantize=memory.quantize,
        offload=memory.offload,
    )


def _find(name: str, revision: str | None) -> Path:
    if name == BUILT_IN:
        return BASE_FOLDER
    folder = Path(name).expanduser()
    if (folder / "model_index.json").is_file():
        _refuse_other_pipelines(name, folder)
        return folder
    if folder.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UsageError(
            f"{name} is no model: a base is a folder with a model_index.json, a Hub id such as "
            f'black-forest-labs/FLUX.1-dev, or "{BUILT_IN}".'
        )
    return _download(name, revision)


def _refuse_other_pipelines(name: str, folder: Path) -> None:
    with _loading(name):
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        kind = index["transformer"][1] if "transformer" in index else index["_class_name"]
    if kind != "FluxTransformer2DModel":
        raise UsageError(
            f"{name} is a pipeline of {kind}, and gridctl draws with FLUX.1; use such a model, or "
            f'the built-in "{BUILT_IN}".'
        )


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    remedy = "Use a local folder as model.base, or the built-in model (--profile tiny)."
    try:
        return Path(
            snapshot_download(
                name, revision=revision, token=hub_token(), allow_patterns=list(_HUB_FILES)
            )
        )
    except GatedRepoError:
        raise GridctlError(
            f"{name} needs its licence accepted; accept it on its Hub page and set HF_TOKEN "
            "(environment or .env) to a token of that account."
        ) from None
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
        at = f" at revision {revision}" if revision else ""
        raise GridctlError(
            f"the Hub has no {name}{at} that this account may read; check the name, or set "
            f"HF_TOKEN. {remedy}"
        ) from None
    except Exception as error:  # the HTTP library's own kinds differ from version to version
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise GridctlError(
            f"{name} is not on this machine and the Hub cannot be reached "
            f"({reason.rstrip('.')}). {remedy}"
        ) from error


def quantization_config(config: Any, kind: str, dtype: torch.dtype) -> Any:
    """`kind` ("nf4" or "int8") as a `config`: diffusers and transformers have a class each.

    Raises UsageError without bitsandbytes.
    """
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        raise UsageError(
            f'memory.quantize = "{kind}" needs bitsandbytes, which is not installed; '
            "pip install 'gridctl[quant]', or set it to \"none\"."
        )
    if kind == "int8":
        return config(load_in_8bit=True)
    return config(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """A damaged or incomplete model folder is told in one line."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, LookupError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{name} cannot be loaded as a FLUX.1 pipeline: {reason.rstrip('.')}. Download it "
            "again, or point model.base to a whole diffusers folder."
        ) from error


def quiet_libraries() -> None:
    """Keep the libraries' progress bars and notices from users who did nothing wrong."""
    # Without a GPU, bitsandbytes warns about kernels that nothing here uses.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # before diffusers imports more of transformers
    transformers_logging.disable_progress_bar()
    from diffusers.utils import logging as diffusers_logging
    from huggingface_hub.utils.tqdm import disable_progress_bars

    diffusers_logging.set_verbosity(logging.CRITICAL)  # what it logs as an error it raises, too
    diffusers_logging.disable_progress_bar()
    disable_progress_bars()
    # diffusers' norms keep float32 weights under autocast, and PyTorch says that it is slower.
    warnings.filterwarnings("ignore", "Mismatch dtype between input and weight", UserWarning)


def file_hash(path: Path) -> str:
    """SHA-256; the Hub's cache names its large files by it, which saves reading 34 GB."""
    blob = path.resolve().name
    if len(blob) == 64 and all(c in "0123456789abcdef" for c in blob):
        return blob
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
