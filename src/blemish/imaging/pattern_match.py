"""The part by a pattern: a small image that is searched for in the image, shifted and rotated."""

import base64
import binascii
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from blemish.arrays import GreyImage
from blemish.errors import ImageError
from blemish.imaging.decoders import png_size

MIN_SIDE = 8  # of a pattern, in px
MIN_CONTRAST = 0.01  # standard deviation, as a share of full scale: below it a window is treated as flat
MAX_PATTERN_BYTES = 2 * 2**20
MAX_PATTERN_PIXELS = 2**24
_COARSE_SIDE = 20  # px of the pattern's shorter side at the coarsest level of the search
_MAX_CANDIDATES = 4  # coarse matches that are refined


@dataclass(frozen=True)
class PatternMatch:
    """Position of a matched pattern: its centre (x, y) at pixel edges, its anticlockwise rotation, and the correlation,
    at most 1."""

    centre: tuple[float, float]
    degrees: float
    score: float


def encode_pattern(grey: GreyImage) -> str:
    """A grey image (h, w) in [0, 1] as a base64 PNG; ImageError where it cannot serve as a pattern."""
    check_pattern(grey)
    content = cv2.imencode(".png", np.round(grey * 255).astype(np.uint8))[1].tobytes()
    if len(content) > MAX_PATTERN_BYTES:
        raise ImageError(f"a pattern of {grey.shape[1]}×{grey.shape[0]} px is too large; cut out a smaller piece")
    return base64.b64encode(content).decode()


@lru_cache(maxsize=4)
def decode_pattern(text: str) -> GreyImage:
    """The image (h, w) in [0, 1] from its base64 PNG, read-only; ImageError where it is damaged or too large."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError("the pattern is damaged: it is no base64") from error
    size = png_size(content)
    if len(content) > MAX_PATTERN_BYTES or size is None:
        raise ImageError("the pattern is damaged: it is no small PNG")
    if size[0] * size[1] > MAX_PATTERN_PIXELS:
        raise ImageError("the pattern has more than 16 million pixels")
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    if decoded is None:
        raise ImageError("the pattern is damaged")
    grey = np.asarray(decoded, np.float32) / np.float32(255)
    grey.flags.writeable = False
    return grey


def check_pattern(pattern: GreyImage) -> None:
    """ImageError for an image (h, w) that is too small, or too plain to be found again."""
    if min(pattern.shape) < MIN_SIDE:
        raise ImageError(f"a pattern of {pattern.shape[1]}×{pattern.shape[0]} px is too small; take {MIN_SIDE} or more")
    if float(pattern.std()) < MIN_CONTRAST:
        raise ImageError("the pattern is of one grey; cut it where the part has features to be found by")


def match_pattern(
    grey: GreyImage, pattern: GreyImage, max_degrees: float = 0.0, min_score: float = 0.6
) -> PatternMatch:
    """The best match of a pattern (h, w) in a grey image (H, W), rotated by up to ± `max_degrees`.

    Likeness is the normalised correlation over the pattern's own pixels (Lewis 1995), which brightness and contrast do
    not change. The search begins on reduced images and is refined to parts of a pixel. The pattern keeps its size.
    Raises ImageError where the likeness stays below `min_score`.
    """
    check_pattern(pattern)
    if grey.shape[0] < pattern.shape[0] or grey.shape[1] < pattern.shape[1]:
        raise ImageError(
            f"no part was found: the image of {grey.shape[1]}×{grey.shape[0]} px is smaller than the pattern of "
            f"{pattern.shape[1]}×{pattern.shape[0]} px"
        )
    factor = 1
    while min(pattern.shape) // (2 * factor) >= _COARSE_SIDE:
        factor *= 2
    matches = _search_whole(_reduce(grey, factor), _reduce(pattern, factor), max_degrees)
    step = _angle_step(_reduce(pattern, factor))
    while True:
        small, small_pattern = _reduce(grey, factor), _reduce(pattern, factor)
        matches = [_search_near(small, small_pattern, match, max_degrees, step) for match in matches]
        if factor == 1:
            break
        factor, step = factor // 2, step / 2
        matches = [PatternMatch((2 * m.centre[0], 2 * m.centre[1]), m.degrees, m.score) for m in matches]
    best = max(matches, key=lambda match: match.score)
    if best.score < min_score:
        raise ImageError(
            f"no part was found: the best match with the pattern scores {best.score:.2f}, less than {min_score:g}"
        )
    return best


def normalised_correlation(image: GreyImage, pattern: GreyImage, mask: GreyImage) -> GreyImage:
    """Normalised correlation (H - h + 1, W - w + 1) of an image with a pattern (h, w) where its mask is 1."""
    image = image - image.mean()  # smaller numbers, smaller rounding errors
    count = float(mask.sum())
    centred = mask * (pattern - float((mask * pattern).sum()) / count)
    likeness, total, squares = (
        cv2.matchTemplate(np.ascontiguousarray(field, np.float32), kernel.astype(np.float32), cv2.TM_CCORR)
        for field, kernel in ((image, centred), (image, mask), (image * image, mask))
    )
    spread = np.maximum(squares - total * total / count, count * MIN_CONTRAST**2)
    return np.asarray(likeness / (np.sqrt(spread) * max(float(np.linalg.norm(centred)), 1e-9)), np.float32)


def rotate_pattern(pattern: GreyImage, degrees: float) -> tuple[GreyImage, GreyImage]:
    """A pattern (h, w) rotated anticlockwise about its centre, on a canvas that holds it at any angle, and its mask."""
    if degrees == 0:
        return pattern, np.ones(pattern.shape, np.float32)
    height, width = pattern.shape
    diagonal = float(np.hypot(height, width))
    # The canvas grows by whole pixels on both sides, so that its centre stays that of the pattern.
    rows, columns = (side + 2 * int(np.ceil((diagonal - side) / 2)) for side in (height, width))
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    matrix[:, 2] += (columns - width) / 2, (rows - height) / 2
    canvas = cv2.warpAffine(pattern, matrix, (columns, rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones(pattern.shape, np.float32), matrix, (columns, rows), flags=cv2.INTER_LINEAR)
    return np.asarray(canvas, np.float32), (inside > 0.99).astype(np.float32)


def _search_whole(grey: GreyImage, pattern: GreyImage, max_degrees: float) -> list[PatternMatch]:
    """The best few matches over the whole image and all angles that are not close to each other."""
    step = _angle_step(pattern)
    count = int(np.ceil(max_degrees / step)) if max_degrees > 0 else 0
    angles = np.linspace(-max_degrees, max_degrees, 2 * count + 1)
    apart: list[PatternMatch] = []
    for match in sorted((_best_match(grey, pattern, float(angle)) for angle in angles), key=lambda m: -m.score):
        if all(
            np.hypot(*np.subtract(match.centre, other.centre)) > min(pattern.shape) / 4
            or abs(match.degrees - other.degrees) > 3 * step
            for other in apart
        ):
            apart.append(match)
    return apart[:_MAX_CANDIDATES]


def _search_near(
    grey: GreyImage, pattern: GreyImage, start: PatternMatch, max_degrees: float, step: float
) -> PatternMatch:
    """The best match within 4 px and one `step` of another."""
    margin = int(np.ceil(np.hypot(*pattern.shape) / 2)) + 4
    x0, y0 = (max(0, int(value) - margin) for value in start.centre)
    window = grey[y0 : int(start.centre[1]) + margin + 1, x0 : int(start.centre[0]) + margin + 1]
    shares = (0.0,) if max_degrees == 0 else (-1, -0.5, 0, 0.5, 1)
    matches = [_best_match(window, pattern, start.degrees + step * share) for share in shares]
    at = int(np.argmax([match.score for match in matches]))
    best = matches[at]
    degrees = best.degrees
    if 0 < at < len(matches) - 1:
        degrees += step / 2 * _parabola_top(*(matches[i].score for i in (at - 1, at, at + 1)))
    return PatternMatch((best.centre[0] + x0, best.centre[1] + y0), degrees, best.score)


def _best_match(grey: GreyImage, pattern: GreyImage, degrees: float) -> PatternMatch:
    """The best match of a pattern rotated by one angle."""
    canvas, mask = rotate_pattern(pattern, degrees)
    rows, columns = (max(0, (outer - side) // 2) for outer, side in zip(canvas.shape, pattern.shape, strict=True))
    # The canvas's empty corners may reach beyond the image, and a window of an image may be smaller than the canvas.
    below, right = (max(0, p - g - 2 * r) for p, g, r in zip(canvas.shape, grey.shape, (rows, columns), strict=True))
    field = cv2.copyMakeBorder(grey, rows, rows + below, columns, columns + right, cv2.BORDER_REPLICATE)
    likeness = normalised_correlation(np.asarray(field, np.float32), canvas, mask)
    _, score, _, (x, y) = cv2.minMaxLoc(likeness)
    dx = _parabola_top(*likeness[y, x - 1 : x + 2].tolist()) if 0 < x < likeness.shape[1] - 1 else 0.0
    dy = _parabola_top(*likeness[y - 1 : y + 2, x].tolist()) if 0 < y < likeness.shape[0] - 1 else 0.0
    centre = (x + dx + canvas.shape[1] / 2 - columns, y + dy + canvas.shape[0] / 2 - rows)
    return PatternMatch(centre, degrees, float(score))


def _parabola_top(before: float, here: float, after: float) -> float:
    """Position of the vertex of the parabola through three neighbours, from -0.5 to 0.5."""
    bend = before - 2 * here + after
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0


def _angle_step(pattern: GreyImage) -> float:
    """The rotation in degrees that moves a pattern's corners by one pixel."""
    return float(np.degrees(2 / np.hypot(*pattern.shape)))


def _reduce(image: GreyImage, factor: int) -> GreyImage:
    """Means of factor × factor pixels; what is left over at the lower and right border is cut off."""
    if factor == 1:
        return image
    height, width = (side // factor for side in image.shape)
    window = image[: height * factor, : width * factor]
    return np.asarray(cv2.resize(window, (width, height), interpolation=cv2.INTER_AREA))
