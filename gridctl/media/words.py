"""Whether words say what a clip shows, or only which camera, phone or program named it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

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
_QUANTITY = re.compile(r"(?:\d+(?:st|nd|rd|th|am|pm|ms|[hms])?)+", re.IGNORECASE)  # 12h30m05s
_TEMPORARY = re.compile(r"tmp\w+", re.IGNORECASE)
_HEX = re.compile(r"(?=\D*\d)[0-9a-f]{8,}", re.IGNORECASE)
_MIXED = re.compile(r"(?=(?:[^\d]*\d+[^\d]+){2})[^\W_]{8,}")  # dQw4w9WgXcQ: digits here and there
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
    text = _UUID.sub(" ", unicodedata.normalize("NFC", text))
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
