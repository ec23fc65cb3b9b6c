"""Captions: whether they say what a clip shows and are worth training on."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gridctl.dataset.folder import caption_path, read_provenance
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import InputError, counted
from gridctl.prompt import LAYOUTS, layout_prompt, layout_template
from gridctl.text import normal_form

# What cameras, phones and apps put before a number or a date.
_CAMERA_TEXT = """
avchd b bmpcc cam capcut cimg clipchamp dcim dcp dji dsc dscf dscn dsci dvr ek fb fbvid gh gl
gopr gp gs gx hpim imag img imgp inshot kif lrv lv mah maq mg mgp mmexport mov movi mvi mvimg p
pano pict pxl rec reolink rimg rpreplay sam sany sn snc thm vid wa xrecorder yi
"""
# Words of names and of answers that are true of any clip.
_EMPTY_TEXT = """
a am and as at by das de del der die do e el en et for from fuer für in is it l la le my no of
ohne on or pm pour sans sem senza sin the this to um und with y à
animation camera capture captured caption clip clips comp composition content copy cut demo
describes description download downloaded draft edit edited export exported file film final
bandicam compressed converted error ezgif giphy nil none nothing null resized tenor tmp todo
undefined watermark
footage frame frames fullsizerender gif grid hd image images instagram facebook live media
meeting messenger movie movies new number obs out output part photo pic picture project quality
raw received recorded recorder recording render rendered replay sample saved scene screen
screencast screenrec screenrecorder screenrecording screenshot sdr seq sequence short shot shows
signal snapchat stab stream take teams telegram temp test tests text tiktok timeline title track
trim trimmed twitter unknown unnamed untitled upload uploaded v ver version video videoplayback
videos vod wechat whatsapp youtube zoom
aufnahme aufzeichnung bildschirm bildschirmaufnahme bildschirmaufzeichnung bildschirmvideo datei
kopie neu neue neuer neues titel unbenannt copie enregistrement écran nouveau nouvelle titre
vidéo archivo copia grabación nueva nuevo pantalla título vídeo nuova registrazione schermo
titolo cópia gravação novo tela видео запись экрана копия новый новая без названия
录屏 录像 屏幕 屏幕录制 屏幕录像 视频 微信视频 未命名 新建 副本 影片 螢幕錄影
動画 ビデオ 画面収録 画面録画 無題 新規 コピー 녹화 동영상 화면 기록 영상 제목 없음
avi fhd hdr hevc mkv mp mpeg mpg prores res ts uhd webm x xvid
"""
_CAMERA = frozenset(_CAMERA_TEXT.split())
_EMPTY = frozenset(_EMPTY_TEXT.split())
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
# Sizes, rates and times of day that describe a file: 1080p, 1920x1080, 60fps, 20240505T121212Z
_TECHNICAL = re.compile(r"\d+(?:[pk]|fps|k?hz|bit|x\d+)|\d{6,}t\d{4,}z?", re.IGNORECASE)
_UNIT = r"(?:st|nd|rd|th|am|pm|ms|[hms])"
_QUANTITY = re.compile(rf"\d+(?:{_UNIT}\d+)*{_UNIT}?", re.IGNORECASE)  # 12h30m05s
_TEMPORARY = re.compile(r"tmp\w+", re.IGNORECASE)
_HEX = re.compile(r"(?=\D*\d)[0-9a-f]{8,}", re.IGNORECASE)
_MIXED = re.compile(r"(?=(?:\D*\d+(?=\D)){2})[^\W_]{8,}")  # dQw4w9WgXcQ: digits here and there
_NUMBERED = re.compile(r"([^\W\d_]+)\d+[a-z]?", re.IGNORECASE)
_APOSTROPHE = "\u02bc"  # a letter in Unicode
_WITHIN = re.compile(r"(?<=[^\W\d_])['’](?=(?:s|t|d|m|re|ll|ve)(?![^\W_]))")  # dog's, don't
_SHORT_NUMBERED = re.compile(r"[a-z]{1,4}\d{3,}[a-z]?", re.IGNORECASE)  # GX010123, P1000123


def words_of_name(stem: str) -> str:
    """The words in the name of a clip, without numbers, dates, ids and camera prefixes.

    `IMG_4712` has none; `red_ball-02` has `red ball`. A letter beside numbers is the camera's.
    """
    words = list(_words(stem))
    kept = [word for word in words if not _is_number(word)]
    if len(words) > 1 and len(kept) == 1 and len(kept[0]) == 1:
        return ""
    return " ".join(kept).replace(_APOSTROPHE, "'")


def says_nothing(text: str) -> bool:
    """Whether `text` has no word that describes anything: a camera's counter, a date, an id, or
    words such as "untitled video".

    A single letter is a name that somebody chose, so it counts as one.
    """
    words = list(_words(text))
    if len(words) == 1 and len(words[0]) == 1 and words[0].isalpha():
        return False
    return all(_is_empty(word) for word in words)


def _words(text: str) -> Iterator[str]:
    """Runs of letters and digits of any script, combining marks included."""
    text = _UUID.sub(" ", normal_form(text))
    text = _WITHIN.sub(_APOSTROPHE, text)
    kept = (c if unicodedata.category(c)[0] in "LMN" else " " for c in text)
    yield from "".join(kept).split()


def _is_number(word: str) -> bool:
    """A number, a date, an id, or a camera's prefix."""
    found = _NUMBERED.fullmatch(word)
    return bool(
        word.isnumeric()
        or _TECHNICAL.fullmatch(word)
        or _HEX.fullmatch(word)
        or _MIXED.fullmatch(word)
        or word.casefold() in _CAMERA
        or (found and found[1].casefold() in _CAMERA)
    )


def _is_empty(word: str) -> bool:
    patterns = (_QUANTITY, _SHORT_NUMBERED, _TEMPORARY)
    if _is_number(word) or any(pattern.fullmatch(word) for pattern in patterns):
        return True
    found = _NUMBERED.fullmatch(word)
    letters = (found[1] if found else word).casefold()
    if letters in _EMPTY or letters in _CAMERA:
        return True
    if len(letters) == 1 and letters.isascii():
        return True
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", word)  # ScreenRecording
    return len(parts) > 1 and all(part.casefold() in _EMPTY | _CAMERA for part in parts)


NEARLY_ALL = 0.9
FEWEST_CLIPS = 4  # of fewer clips, equal captions may well be right
_REMEDY = (
    "run gridctl caption --force with --mapping, --backend vlm or --server, or with --subject if "
    "one sentence fits all clips."
)
CHOSEN = {"mapping", "text", "subject"}  # contents that somebody wrote
_FEW_WORDS = 3


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """A grid image with the text of its caption file, and its metadata if they are known.

    A caption file may hold several captions, one per line. `source` names the clip if there
    are no metadata.
    """

    image: Path
    text: str
    metadata: GridMetadata | None = None
    source: str | None = None

    @property
    def captions(self) -> list[str]:
        return [line.strip() for line in self.text.splitlines() if line.strip()]

    @property
    def clip(self) -> str:
        """Identity of its clip."""
        return self.metadata.source if self.metadata else self.source or str(self.image)


def layout_patterns(layout: str) -> dict[str, re.Pattern[str]]:
    """Template → what it looks like filled in, for `layout` and for the named ones.

    `layout` is a name or a template. Raises UsageError for an unknown name.
    """
    own = layout_template(layout) if layout else ""
    patterns = {}
    for template in filter(None, dict.fromkeys((own, *LAYOUTS.values()))):
        parts = map(re.escape, re.split(r"\{\w+[^}]*\}", template))
        # Any values filled in. Without a limit, a long word would be matched in many ways.
        patterns[template] = re.compile(r"\S{1,40}?(?: seconds?)?".join(parts))
    return patterns


def content_of(text: str, patterns: Mapping[str, re.Pattern[str]]) -> str:
    """A caption without its layout prompt."""
    return text[len(_layout_of(text, patterns)[1]) :].strip()


def _layout_of(text: str, patterns: Mapping[str, re.Pattern[str]]) -> tuple[str, str]:
    """(template, the layout prompt that a caption begins with); both empty if it has none."""
    for template, pattern in patterns.items():
        if found := pattern.match(text):
            return template, found[0]
    return "", ""


class Limit(Protocol):
    """The number of tokens that a text encoder reads, and a way to count them."""

    @property
    def tokens(self) -> int: ...

    def count(self, text: str) -> int: ...


def find_faults(grids: Sequence[Captioned], *, layout: str, limit: Limit) -> list[tuple[Path, str]]:
    """(image, fault) for captions that are too long, say nothing, contradict the grid's metadata,
    or equal another clip's.
    """
    patterns = layout_patterns(layout)
    found = [
        (grid.image, fault) for grid in grids for fault in caption_faults(grid, patterns, limit)
    ]
    return found + equal_captions(grids, layout=layout)


def caption_faults(
    grid: Captioned, patterns: Mapping[str, re.Pattern[str]], limit: Limit
) -> list[str]:
    """The faults of one grid's captions; `patterns` is from `layout_patterns`."""
    faults = []
    for text in grid.captions:
        content, tokens = text, limit.count(text)
        if tokens > limit.tokens:
            faults.append(f"too long: about {tokens} tokens; it exceeds the {limit}.")
        template, layout = _layout_of(text, patterns)
        if template:
            content = text[len(layout) :].strip()
            if not content:
                faults.append("a layout prompt without content; add what the grid shows.")
            if grid.metadata is not None:
                right = layout_prompt(grid.metadata.grid, template, fps=grid.metadata.fps)
                if layout != right:
                    faults.append(f'says "{layout}", but the metadata says "{right}"')
        if content and says_nothing(content):
            faults.append(f'"{_shortened(content)}" does not say what the clip shows; describe it.')
    return faults


def refuse_useless_captions(grids: Sequence[Captioned], *, layout: str) -> None:
    """Raise InputError if captions say nothing, or nearly all say the same by accident."""
    patterns = layout_patterns(layout)
    empty = [
        (grid.image, text)
        for grid in grids
        for text in grid.captions
        if says_nothing(content_of(text, patterns))
    ]
    if empty:
        image, text = empty[0]
        raise InputError(
            f"{counted(len(empty), 'caption')} of {counted(len(grids), 'grid')} do not say what "
            f'the clip shows, such as "{_shortened(text)}" of {image}; {_REMEDY}'
        )
    if fault := same_by_accident(grids, layout=layout):
        raise InputError(f"{fault}; {_REMEDY}")


def same_by_accident(grids: Sequence[Captioned], *, layout: str) -> str | None:
    """The fault if nearly all clips have the same content, which nobody chose; else None.

    Content that was chosen (--subject, --mapping, a text beside the clip) may be the same for
    all, as when one object is learned. The same words from a name or a model are an accident.
    A caption of unknown origin counts as chosen if it is more than a word or two.
    """
    patterns = layout_patterns(layout)
    contents = {grid.clip: _key(content_of(grid.text, patterns)) for grid in grids}
    if len(contents) < FEWEST_CLIPS:
        return None
    content, count = Counter(contents.values()).most_common(1)[0]
    if count < NEARLY_ALL * len(contents):
        return None
    same = [grid for grid in grids if contents[grid.clip] == content]
    origins = caption_origins(same)
    if any(origins[grid.image] in CHOSEN for grid in same):
        return None
    unknown = all(origins[grid.image] is None for grid in same)
    if unknown and len(content.split()) >= _FEW_WORDS:
        return None
    clips = counted(len(contents), "clip")
    return f'{count} of {clips} have the same content "{_shortened(content)}"'


def equal_captions(grids: Sequence[Captioned], *, layout: str) -> list[tuple[Path, str]]:
    """Captions that different clips share, unless somebody chose them."""
    if accident := same_by_accident(grids, layout=layout):
        return [(grids[0].image, f"{accident}; write what differs.")]
    equal: dict[str, list[Captioned]] = {}
    for grid in grids:
        equal.setdefault(_key(grid.text), []).append(grid)
    shared = [same for same in equal.values() if len({grid.clip for grid in same}) > 1]
    origins = caption_origins(grid for same in shared for grid in same)
    return [
        (grid.image, f"the same as {caption_path(same[0].image)}; write what differs.")
        for same in shared
        for grid in same[1:]
        if grid.clip != same[0].clip and origins[grid.image] not in CHOSEN
    ]


def caption_origins(grids: Iterable[Captioned]) -> dict[Path, str | None]:
    """Image → where its content came from: mapping, text, subject, name, model, or unknown."""
    folders: dict[Path, dict[tuple[str, str], dict[str, str | None]]] = {}
    origins: dict[Path, str | None] = {}
    for grid in grids:
        folder = grid.image.parent
        if folder not in folders:
            folders[folder] = read_provenance(folder)
        fields = folders[folder].get((grid.image.name, grid.text.strip()), {})
        backend = fields.get("caption_backend")
        is_model = backend not in (None, "template")
        origins[grid.image] = "model" if is_model else fields.get("caption_content")
    return origins


def _key(content: str) -> str:
    return " ".join(content.split()).casefold()


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
