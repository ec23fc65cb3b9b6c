"""The inputs of a run: what must stay the same for it to be resumed, and how two runs differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridctl.files import write_text
from gridctl.models.base import BaseModel
from gridctl.models.hub import file_hash
from gridctl.profile import Profile, TrainSection
from gridctl.train.cache import Cache
from gridctl.train.data import Sample, Stage

RUN_FILE = "run.json"
_SHOWN = 3  # names of changed grids in a message
# Settings that may change when a run is resumed.
_FREE_KEYS = {
    "output", "start", "data", "steps", "checkpoint_every", "keep_checkpoints", "log_every",
    "save_dtype", "stage", "preview_every", "preview_prompts", "trackers", "compile",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunInputs:
    """A run's settings by key, and its grids in order: (name, image's hash, captions' hash).

    Settings at their defaults are left out, so that runs from before a new setting still resume.
    """

    settings: Mapping[str, Any]
    grids: Sequence[Sequence[str]]

    @property
    def fingerprint(self) -> str:
        """SHA-256, equal for runs that may continue each other; files may have other names."""
        content = [self.settings, [list(hashes) for _, *hashes in self.grids]]
        return hashlib.sha256(_json(content).encode()).hexdigest()

    def write(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Write run.json in a run folder; `about` is for the report."""
        text = _json({"about": about, "settings": self.settings, "grids": self.grids})
        write_text(folder / RUN_FILE, text + "\n")

    @classmethod
    def read(cls, folder: Path) -> RunInputs | None:
        """The inputs in a run folder's run.json; None if that is missing or damaged."""
        try:
            data = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
            grids = [(name, image, captions) for name, image, captions in data["grids"]]
            return cls(settings=dict(data["settings"]), grids=grids)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def differences(self, before: RunInputs) -> str:
        """The changes since `before`, such as `train.rank 32 → 8; 3 captions changed (…)`."""
        settings = [
            f"{key} {_value(key, before.settings)} → {_value(key, self.settings)}"
            for key in sorted({*self.settings, *before.settings})
            if self.settings.get(key) != before.settings.get(key)
        ]
        new = {name: hashes for name, *hashes in self.grids}
        old = {name: hashes for name, *hashes in before.grids}
        both = [name for name in new if name in old]
        groups = {
            "image{} changed": [name for name in both if new[name][0] != old[name][0]],
            "caption{} changed": [name for name in both if new[name][1] != old[name][1]],
            "grid{} added": [name for name in new if name not in old],
            "grid{} removed": [name for name in old if name not in new],
        }
        grids = [
            f"{len(names)} {what.format('' if len(names) == 1 else 's')} "
            f"({', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''})"
            for what, names in groups.items()
            if names
        ]
        return "; ".join([*settings, *grids]) or "the grids in another order"


def run_inputs(
    profile: Profile,
    base: BaseModel,
    cache: Cache,
    stages: Sequence[Stage],
    samples: Sequence[Sequence[Sample]],
    start: Path | None,
) -> RunInputs:
    """Collect the inputs of a profile's run. The last stage may grow if it has no ramp."""
    default, train = TrainSection().to_json(), profile.train.to_json()
    settings = {
        f"train.{key}": value
        for key, value in train.items()
        if key not in _FREE_KEYS and value != default[key]
    }
    if not profile.train.keep:
        settings.pop("train.keep_patterns", None)
    for number, section in enumerate(profile.train.stages, start=1):
        settings |= {
            f"stage {number}.{key}": value
            for key, value in section.to_json().items()
            if key not in ("data", "steps") and value is not None
        }
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
    grids: list[Sequence[str]] = []
    for number, (stage, some) in enumerate(zip(stages, samples, strict=True), start=1):
        for sample in some:
            # Single frames are trained on the contents, which the layout prompt decides too.
            contents = sample.contents if profile.train.preserve_weight else ()
            texts = "\n".join([*sample.captions, *contents])
            name = sample.image.relative_to(stage.data).as_posix()
            stage_name = f"{number}: {name}" if len(stages) > 1 else name
            captions = hashlib.sha256(texts.encode()).hexdigest()
            grids.append((stage_name, sample.digest[:16], captions[:16]))
    return RunInputs(settings=settings, grids=grids)


def _value(key: str, settings: Mapping[str, Any]) -> str:
    """The value of a setting for a message; settings at their defaults are not stored."""
    section, _, name = key.partition(".")
    default = TrainSection().to_json() if section == "train" else {}
    return str(settings.get(key, default.get(name, "unset")))


def _json(content: object) -> str:
    return json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
