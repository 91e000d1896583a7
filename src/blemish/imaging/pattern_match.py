"""The part by a mark: a small picture looked for in the image, shifted and turned."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import ImageError

Floats = NDArray[Any]  # float32
LEAST_SIDE = 8  # of a mark, in px
LEAST_CONTRAST = 0.01  # standard deviation, in parts of full scale: below it a place is as good as flat
_COARSE_SIDE = 20  # px that the mark's shorter side has where the search begins
_CANDIDATES = 4  # places that are looked at more closely


@dataclass(frozen=True)
class Match:
    """Where a mark was found: its centre (x, y) at pixel edges, its turn anticlockwise, and the correlation, to 1."""

    centre: tuple[float, float]
    degrees: float
    score: float


def find_mark(grey: Floats, mark: Floats, reach: float = 0.0, least_score: float = 0.6) -> Match:
    """The place in a grey image (H, W), float32, that is most like a mark (h, w) turned by up to ± `reach` degrees.

    Likeness is the normalised correlation over the mark's own pixels (Lewis 1995), which brightness and contrast do
    not change. The search begins on reduced pictures and is refined to parts of a pixel. The mark keeps its size.
    Raises ImageError where the likeness stays below `least_score`.
    """
    check_mark(mark)
    if grey.shape[0] < mark.shape[0] or grey.shape[1] < mark.shape[1]:
        raise ImageError(
            f"no part was found: the image of {grey.shape[1]}×{grey.shape[0]} px is smaller than the mark of "
            f"{mark.shape[1]}×{mark.shape[0]} px"
        )
    factor = 1
    while min(mark.shape) // (2 * factor) >= _COARSE_SIDE:
        factor *= 2
    found = _everywhere(_reduced(grey, factor), _reduced(mark, factor), reach)
    step = _step(_reduced(mark, factor))
    while True:
        small, small_mark = _reduced(grey, factor), _reduced(mark, factor)
        found = [_nearby(small, small_mark, match, reach, step) for match in found]
        found = sorted(found, key=lambda match: -match.score)
        if factor == 1:
            break
        factor, step = factor // 2, step / 2
        found = [Match((2 * m.centre[0], 2 * m.centre[1]), m.degrees, m.score) for m in found]
    if found[0].score < least_score:
        raise ImageError(
            f"no part was found: the most like the mark is like it by {found[0].score:.2f}, less than {least_score:g}"
        )
    return found[0]


def check_mark(mark: Floats) -> None:
    """ImageError for a picture that cannot be told from others."""
    if min(mark.shape) < LEAST_SIDE:
        raise ImageError(f"a mark of {mark.shape[1]}×{mark.shape[0]} px is too small; take {LEAST_SIDE} px or more")
    if float(mark.std()) < LEAST_CONTRAST:
        raise ImageError("the mark is of one grey; cut it where the part has something to be known by")


def correlation(image: Floats, pattern: Floats, mask: Floats) -> Floats:
    """Normalised correlation (H - h + 1, W - w + 1) of an image with a pattern (h, w) where its mask is 1."""
    image = image - image.mean()  # smaller numbers, smaller rounding errors
    count = float(mask.sum())
    centred = mask * (pattern - float((mask * pattern).sum()) / count)
    likeness, total, squares = (
        cv2.matchTemplate(np.ascontiguousarray(field, np.float32), kernel.astype(np.float32), cv2.TM_CCORR)
        for field, kernel in ((image, centred), (image, mask), (image * image, mask))
    )
    spread = np.maximum(squares - total * total / count, count * LEAST_CONTRAST**2)
    return np.asarray(likeness / (np.sqrt(spread) * max(float(np.linalg.norm(centred)), 1e-9)), np.float32)


def turned(mark: Floats, degrees: float) -> tuple[Floats, Floats]:
    """A mark (h, w) turned anticlockwise about its centre, on a canvas that holds it at any angle, and its mask."""
    if degrees == 0:
        return mark, np.ones(mark.shape, np.float32)
    height, width = mark.shape
    diagonal = float(np.hypot(height, width))
    # The canvas grows by whole pixels on both sides, so that its centre stays that of the mark.
    rows, columns = (side + 2 * int(np.ceil((diagonal - side) / 2)) for side in (height, width))
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    matrix[:, 2] += (columns - width) / 2, (rows - height) / 2
    canvas = cv2.warpAffine(mark, matrix, (columns, rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones(mark.shape, np.float32), matrix, (columns, rows), flags=cv2.INTER_LINEAR)
    return canvas, (inside > 0.99).astype(np.float32)


def _everywhere(grey: Floats, mark: Floats, reach: float) -> list[Match]:
    """The best few places over the whole image and all angles."""
    step = _step(mark)
    count = int(np.ceil(reach / step)) if reach > 0 else 0
    angles = np.linspace(-reach, reach, 2 * count + 1)
    found = sorted((_best(grey, mark, float(angle)) for angle in angles), key=lambda match: -match.score)
    apart: list[Match] = []
    for match in found:
        if all(_far(match, other, mark, step) for other in apart):
            apart.append(match)
    return apart[:_CANDIDATES]


def _far(one: Match, other: Match, mark: Floats, step: float) -> bool:
    distance = float(np.hypot(one.centre[0] - other.centre[0], one.centre[1] - other.centre[1]))
    return distance > min(mark.shape) / 4 or abs(one.degrees - other.degrees) > 3 * step


def _nearby(grey: Floats, mark: Floats, start: Match, reach: float, step: float) -> Match:
    """The best place within 4 px and one `step` of a match."""
    room = int(np.ceil(np.hypot(*mark.shape) / 2)) + 4
    x0, y0 = (max(0, int(value) - room) for value in start.centre)
    part = grey[y0 : int(start.centre[1]) + room + 1, x0 : int(start.centre[0]) + room + 1]
    angles = [start.degrees] if reach == 0 else [start.degrees + step * share for share in (-1, -0.5, 0, 0.5, 1)]
    found = [_best(part, mark, angle) for angle in angles]
    at = int(np.argmax([match.score for match in found]))
    best = found[at]
    degrees = best.degrees
    if 0 < at < len(found) - 1:
        degrees += step / 2 * _top(*(found[i].score for i in (at - 1, at, at + 1)))
    return Match((best.centre[0] + x0, best.centre[1] + y0), degrees, best.score)


def _best(grey: Floats, mark: Floats, degrees: float) -> Match:
    """The best place of a mark turned by one angle."""
    pattern, mask = turned(mark, degrees)
    rows, columns = (max(0, (canvas - side) // 2) for canvas, side in zip(pattern.shape, mark.shape, strict=True))
    # The canvas's empty corners may reach beyond the image, and a part of an image may be smaller than the canvas.
    below, beside = (max(0, p - g - 2 * r) for p, g, r in zip(pattern.shape, grey.shape, (rows, columns), strict=True))
    field = cv2.copyMakeBorder(grey, rows, rows + below, columns, columns + beside, cv2.BORDER_REPLICATE)
    likeness = correlation(field, pattern, mask)
    _, score, _, (x, y) = cv2.minMaxLoc(likeness)
    dx = _top(*likeness[y, x - 1 : x + 2].tolist()) if 0 < x < likeness.shape[1] - 1 else 0.0
    dy = _top(*likeness[y - 1 : y + 2, x].tolist()) if 0 < y < likeness.shape[0] - 1 else 0.0
    centre = (x + dx + pattern.shape[1] / 2 - columns, y + dy + pattern.shape[0] / 2 - rows)
    return Match(centre, degrees, float(score))


def _top(before: float, here: float, after: float) -> float:
    """Where the parabola through three neighbours has its top, from -0.5 to 0.5."""
    bend = before - 2 * here + after
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0


def _step(mark: Floats) -> float:
    """The turn in degrees that moves a mark's corners by one pixel."""
    return float(np.degrees(2 / np.hypot(*mark.shape)))


def _reduced(picture: Floats, factor: int) -> Floats:
    """Means of factor × factor pixels; what is left over at the lower and right edge is cut off."""
    if factor == 1:
        return picture
    height, width = (side // factor for side in picture.shape)
    return np.asarray(
        cv2.resize(picture[: height * factor, : width * factor], (width, height), interpolation=cv2.INTER_AREA)
    )
