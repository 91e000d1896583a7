"""Text in pictures, in any script that a font on the system covers: the only module that chooses fonts.

Pictures use Pillow's own font; characters that it lacks, such as Chinese class names, come from a CJK font of the
system (Noto, WenQuanYi, Microsoft YaHei, PingFang), which matplotlib uses too. Where none is installed, one warning
says so.
"""

import logging
import os
import subprocess
import sys
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import ImageFont
from PIL.ImageFont import FreeTypeFont

from blemish.arrays import Picture, PixelBox

Colour = tuple[int, int, int]  # RGB
WHITE = (255, 255, 255)
# By preference; the names of the files begin with these.
CJK_FONTS = ("NotoSansCJK", "NotoSansSC", "SourceHanSans", "wqy-microhei", "wqy-zenhei", "msyh", "PingFang", "STHeiti",
             "simhei", "simsun", "DroidSansFallback")  # fmt: skip
FONT_FOLDERS = {
    "win32": (Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts",),
    "darwin": (Path("/System/Library/Fonts"), Path("/Library/Fonts")),
}
_MISSING = "\U0010ffff"  # no font has it, so it shows a font's sign for a missing glyph

log = logging.getLogger(__name__)


@cache
def cjk_font() -> Path | None:
    """File of a font with Chinese, Japanese and Korean characters; None where none is installed."""
    files = _listed_by_fontconfig() or [
        file
        for folder in FONT_FOLDERS.get(sys.platform, (Path("/usr/share/fonts"), Path("/usr/local/share/fonts")))
        for file in sorted(folder.rglob("*.[to]t[cf]"))
    ]
    for name in CJK_FONTS:
        for file in sorted(files, key=lambda file: ("regular" not in file.stem.lower(), file.name)):
            if file.name.lower().startswith(name.lower()):
                return file
    return None


def missing_glyphs(text: str) -> set[str]:
    """Characters of a text that would be drawn as the font's sign for a missing glyph."""
    font = _load_font(text, 16)
    return {character for character in text if not _has_glyph(font, character)}


def text_size(text: str, height: int) -> tuple[int, int]:
    """Width and height in px of the bar behind a text whose characters are about `height` px high."""
    left, _, right, _ = _load_font(text, height).getbbox(text)
    return int(right - left) + 2 * _padding(height), height + 2 * _padding(height)


def place_bar(picture: Picture, text: str, height: int, corner: tuple[int, int]) -> PixelBox:
    """The bar of a text: its upper left at the corner (x, y), or as near to it as fits into the picture."""
    width, bar_height = text_size(text, height)
    x = max(0, min(corner[0], picture.shape[1] - width))
    y = max(0, min(corner[1], picture.shape[0] - bar_height))
    return x, y, x + width, y + bar_height


def draw_text(picture: Picture, text: str, height: int, corner: tuple[int, int], colour: Colour) -> PixelBox:
    """Write white text on a bar of the colour into the picture, in place, and return the bar.

    A text that is wider than the picture is written smaller.
    """
    height = max(1, min(height, int(height * picture.shape[1] / text_size(text, height)[0])))
    x0, y0, x1, y1 = bar = place_bar(picture, text, height, corner)
    cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), colour, -1)
    font = _load_font(text, height)
    (width, rows), (_, top) = font.getmask(text).size, font.getbbox(text)[:2]
    ink = np.array(font.getmask(text), np.float32).reshape(rows, width)[..., None] / 255
    left, upper = x0 + _padding(height), y0 + _padding(height) + round(float(top) - 0.1 * height)
    area = picture[upper : upper + rows, left : left + width]
    ink = ink[: area.shape[0], : area.shape[1]]
    area[:] = np.asarray(area * (1 - ink) + np.array(WHITE) * ink).round().astype(np.uint8)
    return bar


def use_fonts(style: Any) -> Any:
    """Matplotlib's settings with a CJK font, where there is one, behind its own."""
    file = cjk_font()
    if file is None:
        return style
    from matplotlib import font_manager

    font_manager.fontManager.addfont(str(file))
    names = ["DejaVu Sans", font_manager.FontProperties(fname=str(file)).get_name()]
    return style | {"font.family": [*names, "sans-serif"]}


@lru_cache(maxsize=64)
def _font(file: Path | None, height: int) -> FreeTypeFont:
    if file is not None:
        return ImageFont.truetype(str(file), height)
    own = ImageFont.load_default(height)
    assert isinstance(own, FreeTypeFont)
    return own


def _load_font(text: str, height: int) -> FreeTypeFont:
    """Pillow's own font where it has all characters, else the system's CJK font, else Pillow's own."""
    own = _font(None, height)
    if text.isascii() or all(_has_glyph(_font(None, 16), character) for character in text):
        return own
    file = cjk_font()
    if file is None:
        _warn_once()
        return own
    return _font(file, height)


@lru_cache(maxsize=4096)
def _has_glyph(font: FreeTypeFont, character: str) -> bool:
    sign, own = font.getmask(_MISSING), font.getmask(character)
    return character.isspace() or own.size != sign.size or bytes(own) != bytes(sign)


@cache
def _warn_once() -> None:
    log.warning(
        "pictures have names in characters that no installed font has, such as Chinese ones; install Noto Sans CJK or "
        "WenQuanYi (Debian: apt-get install fonts-noto-cjk)"
    )


def _listed_by_fontconfig() -> list[Path]:
    try:
        done = subprocess.run(["fc-list", ":lang=zh", "-f", "%{file}\n"], capture_output=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [Path(line) for line in sorted(set(os.fsdecode(done.stdout).splitlines()))]


def _padding(height: int) -> int:
    return max(1, round(0.3 * height))
