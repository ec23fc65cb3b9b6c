"""Quantised transformers in the cache: reading one takes less time than quantising it again.

diffusers writes and reads them. An entry's name is the hash of everything that decides its
weights, so it is never wrong, only missing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch

from gridctl.errors import InputError, UsageError
from gridctl.files import NOT_SUPPORTED, atomic_folder, sweep_temporaries
from gridctl.machine.caches import cache_folder
from gridctl.models.hub import fingerprint, loading

if TYPE_CHECKING:
    import torch


def transformer_quantization(kind: str, dtype: torch.dtype) -> Any:
    """The quantisation of the transformer by diffusers: "nf4", "int8" or "fp8".

    All of them train with LoRA: the weights are stored in 4 or 8 bits, products are in `dtype`.

    Raises UsageError without the library it needs.
    """
    from diffusers import BitsAndBytesConfig

    if kind == "nf4":
        return quantization_config(BitsAndBytesConfig, kind, dtype)
    _need("torchao", kind)
    from diffusers import TorchAoConfig
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    return TorchAoConfig(
        Int8WeightOnlyConfig(version=2) if kind == "int8" else Float8WeightOnlyConfig()
    )


def quantization_config(config: Any, kind: str, dtype: torch.dtype) -> Any:
    """`kind` ("nf4" or "int8") as bitsandbytes' `config`: diffusers' class or transformers'.

    Raises UsageError for another kind, or without bitsandbytes.
    """
    if kind not in ("nf4", "int8"):
        raise UsageError(f'quantize = "{kind}" is for the transformer; use "nf4" or "int8" here.')
    _need("bitsandbytes", kind)
    if kind == "int8":
        return config(load_in_8bit=True)
    return config(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def _need(package: str, kind: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise UsageError(
            f'quantize = "{kind}" needs {package}, which is not installed; '
            f'pip install {package}, or set it to "none".'
        )


_FORMAT = 1  # raise it when this module quantises in another way
_LIBRARY = {"nf4": "bitsandbytes", "int8": "torchao", "fp8": "torchao"}


def load_quantized(
    model_class: Any,
    folder: Path,
    kind: str,
    device: torch.device,
    options: Mapping[str, Any],
    quantize: Callable[[], Any],
) -> Any:
    """The transformer in `folder`, a `model_class` of diffusers, quantised as `kind` on `device`.

    It is read from the cache, with `options` for diffusers' `from_pretrained`, if an earlier run
    has left it there. Otherwise `quantize` makes it, and it is kept if the disk has room.
    """
    entry = _entry(folder, kind, device, options["torch_dtype"])
    if entry is None:
        return quantize()
    if entry.is_dir():
        with suppress(InputError), loading(str(entry)):
            return model_class.from_pretrained(entry, **options)
        with suppress(OSError):  # a damaged entry is made again
            shutil.rmtree(entry)
    transformer = quantize()
    _keep(transformer, entry, largest=_num_bytes(folder))
    return transformer


def _entry(folder: Path, kind: str, device: torch.device, dtype: torch.dtype) -> Path | None:
    """The folder of an entry; None for a user who has no place for a cache.

    Libraries change how they round and what they write, so their versions are in its name.
    """
    decides = (_FORMAT, fingerprint(folder.parent, folder.name), kind, dtype, device.type)
    name = hashlib.sha256(" ".join(map(str, decides)).encode()).hexdigest()
    versions = "-".join(version(library) for library in ("diffusers", _LIBRARY[kind]))
    with suppress(InputError):
        return cache_folder() / "bases" / name / versions
    return None


def _keep(transformer: Any, entry: Path, *, largest: int) -> None:
    """Write an entry; a cache that cannot be written, or is too small, is no reason to stop."""
    if os.environ.get("LOCAL_RANK", "0") != "0":  # one process of several writes it
        return
    # diffusers' writer copies all of it to main memory.
    if psutil.virtual_memory().available < 1.2 * transformer.get_memory_footprint():
        return
    # ValueError: the tensors of torchao before 0.16 cannot be written.
    with suppress(InputError, OSError, ValueError), _no_room_is_an_os_error():
        entry.parent.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(entry.parent)
        if entry.is_dir() or shutil.disk_usage(entry.parent).free < largest:
            return
        with atomic_folder(entry, keep_first=True) as temporary:
            transformer.save_pretrained(temporary)
            for path in temporary.iterdir():  # a loss of power must not leave a part of it
                _wait_for_disk(path)
        for other in entry.parent.iterdir():
            # Entries of other library versions. Dot files are still being written.
            if other != entry and not other.name.startswith("."):
                shutil.rmtree(other)


def _wait_for_disk(path: Path) -> None:
    try:
        with path.open("r+b") as written:
            os.fsync(written.fileno())
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise


@contextmanager
def _no_room_is_an_os_error() -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise OSError(str(error)) from error


def _num_bytes(folder: Path) -> int:
    """What the files of the unquantised transformer take: more than the entry will."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
