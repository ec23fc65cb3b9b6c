"""Records: how an output was made, written inside the file, and drawing it again from that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gridctl import __version__
from gridctl.errors import InputError, ProfileError
from gridctl.generate.job import Job, Output, Request
from gridctl.generate.tasks import TASKS
from gridctl.media.record import read_record
from gridctl.models.hub import file_hash, find_base, find_family, fingerprint, weight_folders
from gridctl.profile import Profile, parse_section

_COMMAND = "generate"
# The parts of a profile that decide what is drawn.
_WHOLE = ("grid", "model", "memory", "generate")
_SECTIONS = {"pack": ("sample", "fit", "background"), "caption": ("layout",)}

# Settings that change the order of sums and nothing else: a clip differs in the last digits.
_ROUNDING = {
    "generate": ("compile",),
    "model": ("attention",),
    "memory": ("device", "offload", "encode_batch", "decode_batch"),
}
# Settings that change no frame: a record has its own seed and rate, the rest is for training.
_INDIFFERENT = {
    "generate": ("seed", "fps"),
    "memory": (
        "preset",
        "gradient_checkpointing",
        "checkpointed_share",
        "offload_activations",
        "optimizer",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Hashes of the base model's files and of the adapter."""

    base: str
    adapter: str | None

    @classmethod
    def of(cls, profile: Profile, adapter: Path | None) -> Weights:
        folder = find_base(profile.model.base, profile.model.revision)
        parts = weight_folders(find_family(profile.model.base, folder))
        return cls(
            base=fingerprint(folder, *parts), adapter=file_hash(adapter) if adapter else None
        )


def record_of(job: Job, output: Output, weights: Weights) -> dict[str, Any]:
    """Everything that decides an output's frames, and the versions that drew them."""
    return {
        "command": _COMMAND,
        "task": job.task,
        "prompt": output.content,
        "seed": output.seed,
        **({"best_of": job.best_of} if job.best_of > 1 else {}),
        "arguments": _encode(dict(job.arguments)),
        "fps": job.fps,
        "profile": {
            section: {key: values[key] for key in _SECTIONS.get(section, values)}
            for section, values in job.profile.to_json().items()
            if section in (*_WHOLE, *_SECTIONS)
        },
        "base": weights.base,
        "adapter": weights.adapter,
        "versions": {
            "gridctl": __version__,
            **{name: version(name) for name in ("torch", "diffusers")},
        },
    }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Whether an output is the one that was asked for, and warnings about it."""

    is_same: bool
    warnings: tuple[str, ...] = ()


def compare(path: Path, record: Mapping[str, Any]) -> Comparison:
    """Compare how the file at `path` was made with `record`.

    Versions and settings that change no frame do not count. Settings that change rounding alone
    give a warning. The best of several seeds counts as made by any of them.
    """
    found = read_record(path)
    if found is None:
        return Comparison(is_same=False)
    wanted = json.loads(json.dumps(record))
    seed = wanted["seed"]
    seeds = range(seed, seed + wanted.get("best_of", 1))
    there = _decisive(found)
    same = all(there.get(key) == value for key, value in _decisive(wanted).items())
    if found.get("seed") not in seeds or not same:
        return Comparison(is_same=False)
    rounding = [
        f"{section}.{key}"
        for section, keys in _ROUNDING.items()
        for key in keys
        if found["profile"][section].get(key) != wanted["profile"][section].get(key)
    ]
    if not rounding:
        return Comparison(is_same=True)
    warning = (
        f"outputs that were drawn with another {' and '.join(rounding)} are kept: only rounding "
        "differs; --force draws them again."
    )
    return Comparison(is_same=True, warnings=(warning,))


def _decisive(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of a record decides what a clip shows."""
    kept = {key: value for key, value in record.items() if key not in ("seed", "versions")}
    kept["best_of"] = record.get("best_of", 1)
    profile = record.get("profile")
    if isinstance(profile, dict):
        kept["profile"] = {
            section: {
                key: value
                for key, value in values.items()
                if key not in (*_ROUNDING.get(section, ()), *_INDIFFERENT.get(section, ()))
            }
            for section, values in profile.items()
        }
    return kept


def remake(path: Path, output: Path) -> Job:
    """The job that made the file at `path`, for another `output`.

    Raises InputError for a file that `generate` has not made, or if the model, the adapter or
    a reference is not what it was.
    """
    found = read_record(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; check the name.")
    if found is None or found.get("command") != _COMMAND or found.get("task") not in TASKS:
        raise InputError(
            f"{path} does not say how it was made; name a file that gridctl generate has written."
        )
    try:
        profile = parse_section(Profile, found["profile"])
        profile = profile.with_values({"generate.seed": found["seed"]})
        request = Request(prompts=(found["prompt"],), output=output, profile=profile)
        job = TASKS[found["task"]](request, **_decode(found["arguments"], path.parent))
        job = replace(job, fps=found["fps"])
        weights = Weights.of(profile, job.adapter)
        same = (weights.base, weights.adapter) == (found["base"], found["adapter"])
    except (KeyError, TypeError, ValueError, ProfileError) as error:
        raise InputError(
            f"{path} was made by another version of gridctl ({error}); draw it by its prompt."
        ) from error
    if not same:
        raise InputError(
            f"{path} was made with another {profile.model.base} or another adapter than the ones "
            "here; it cannot be made again with these."
        )
    return job


def _encode(value: Any) -> Any:
    """Paths with the hash of their content, in any nesting."""
    if isinstance(value, Path):
        return {"path": str(value), "sha256": _content_hash(value)}
    if isinstance(value, Mapping):
        return {key: _encode(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(one) for one in value]
    return value


def _decode(value: Any, folder: Path) -> Any:
    """What `_encode` took; files are looked for where they were, then in `folder`."""
    if isinstance(value, list):
        return [_decode(one, folder) for one in value]
    if not isinstance(value, dict):
        return value
    if set(value) != {"path", "sha256"}:
        return {key: _decode(one, folder) for key, one in value.items()}
    path = Path(value["path"])
    for place in (path, folder / path.name):
        if place.exists() and _content_hash(place) == value["sha256"]:
            return place
    raise InputError(f"{path} is not there as it was; put the same file back.")


def _content_hash(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of a folder's files."""
    if path.is_file():
        return file_hash(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(path)}\0{file_hash(file)}\n".encode())
    return digest.hexdigest()
