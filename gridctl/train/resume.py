"""What must stay the same for a run to be resumed, and what differs if it did not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridctl.errors import InputError
from gridctl.files import write_text
from gridctl.models.base import BaseModel
from gridctl.models.hub import file_hash
from gridctl.profile import Profile, StageSection, TrainSection
from gridctl.train.cache import Cache
from gridctl.train.data import Sample, Stage

RUN_FILE = "run.json"
_SHOWN = 3  # names of changed grids in a message
# What may change from one part of a run to the next.
_FREE_KEYS = {
    "output", "start", "data", "steps", "checkpoint_every", "keep_checkpoints", "log_every",
    "save_dtype", "stages", "preview_every", "preview_prompts", "trackers",
    "compile",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A run's settings by key, and its grids in order: (name, image's hash, captions' hash).

    Settings at their defaults are left out, so that a new setting does not end old runs.
    """

    settings: Mapping[str, Any]
    grids: Sequence[Sequence[str]]

    @property
    def fingerprint(self) -> str:
        """Equal for runs that may continue each other; files may have other names."""
        content = [self.settings, [list(hashes) for _, *hashes in self.grids]]
        return hashlib.sha256(_json(content).encode()).hexdigest()

    def write(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Save it in a run folder, with what the report tells about the run."""
        text = _json({"about": about, "settings": self.settings, "grids": self.grids})
        write_text(folder / RUN_FILE, text + "\n")

    @classmethod
    def read(cls, folder: Path) -> Identity | None:
        """The identity in a run folder; None for a run of an older gridctl."""
        path = folder / RUN_FILE
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return cls(settings=data["settings"], grids=data["grids"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} cannot be read ({error}); use --force to start over."
            ) from error

    def differences(self, then: Identity) -> str:
        """What differs from `then`, such as `train.rank 32 → 8; 3 captions changed (…)`."""
        found = [*self._changed_settings(then), *self._changed_grids(then)]
        return "; ".join(found) or "the grids in another order"

    def _changed_settings(self, then: Identity) -> list[str]:
        keys = sorted({*self.settings, *then.settings})
        return [
            f"{key} {_shown(key, then.settings)} → {_shown(key, self.settings)}"
            for key in keys
            if self.settings.get(key) != then.settings.get(key)
        ]

    def _changed_grids(self, then: Identity) -> list[str]:
        mine = {name: hashes for name, *hashes in self.grids}
        old = {name: hashes for name, *hashes in then.grids}
        both = [name for name in mine if name in old]
        groups = {
            "image{} changed": [name for name in both if mine[name][0] != old[name][0]],
            "caption{} changed": [name for name in both if mine[name][1] != old[name][1]],
            "grid{} added": [name for name in mine if name not in old],
            "grid{} removed": [name for name in old if name not in mine],
        }
        return [
            f"{len(names)} {what.format('' if len(names) == 1 else 's')} ({_some(names)})"
            for what, names in groups.items()
            if names
        ]


def identify(
    profile: Profile,
    base: BaseModel,
    cache: Cache,
    stages: Sequence[Stage],
    samples: Sequence[Sequence[Sample]],
    start: Path | None,
) -> Identity:
    """The identity of the run of a profile. The last stage may grow if it has no ramp."""
    default = TrainSection().model_dump(mode="json")
    train = profile.train.model_dump(mode="json", exclude=_FREE_KEYS)
    settings = {f"train.{key}": value for key, value in train.items() if value != default[key]}
    if not profile.train.keep:
        settings.pop("train.keep_patterns", None)
    for number, section in enumerate(profile.train.stages, start=1):
        own = section.model_dump(mode="json", exclude={"data", "steps"})
        bare = StageSection().model_dump(mode="json")
        settings |= {f"stage {number}.{k}": v for k, v in own.items() if v != bare[k]}
    for number, stage in enumerate(stages, start=1):
        if stage is not stages[-1] or stage.has_ramp:
            settings[f"stage {number}.steps"] = stage.steps
    settings |= {
        "grid": str(profile.grid.to_grid()),
        "model.base": profile.model.base,
        "the base's weights": base.fingerprint("transformer")[:12],
        "the VAE": cache.vae_hash[:12],
        "the text encoders": cache.text_hash[:12],
        "model.dtype": str(base.dtype).removeprefix("torch."),
        "memory.quantize": profile.memory.quantize,
        "memory.optimizer": profile.memory.optimizer,
    }
    if profile.model.text_tokens:
        settings["model.text_tokens"] = profile.model.text_tokens
    if profile.generate.max_mu is not None:
        settings["generate.max_mu"] = profile.generate.max_mu
    if start:
        settings["train.start"] = file_hash(start)[:12]
    with_contents = bool(profile.train.preserve_weight)
    return Identity(settings=settings, grids=_grids(stages, samples, with_contents=with_contents))


def _grids(
    stages: Sequence[Stage], samples: Sequence[Sequence[Sample]], *, with_contents: bool
) -> list[Sequence[str]]:
    """With the contents too, if single frames are trained by what the layout prompt leaves."""
    grids: list[Sequence[str]] = []
    for number, (stage, some) in enumerate(zip(stages, samples, strict=True), start=1):
        for sample in some:
            texts = [*sample.captions, *(sample.contents if with_contents else ())]
            captions = hashlib.sha256("\n".join(texts).encode()).hexdigest()
            name = sample.image.relative_to(stage.data).as_posix()
            stage_name = f"{number}: {name}" if len(stages) > 1 else name
            grids.append((stage_name, sample.digest[:16], captions[:16]))
    return grids


def _shown(key: str, settings: Mapping[str, Any]) -> str:
    if key in settings:
        return str(settings[key])
    section, _, name = key.partition(".")
    field = TrainSection.model_fields.get(name) if section == "train" else None
    return str(field.default) if field else "unset"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _json(content: object) -> str:
    return json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
