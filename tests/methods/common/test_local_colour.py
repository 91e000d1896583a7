"""Local colours against loops over squares, and what they do not depend on."""

import numpy as np
import pytest
import torch

from blemish.methods.common.local_colour import local_colour


def by_loops(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Of one image (C, H, W), the same by the definition."""
    brightness = image.mean(axis=0)
    values = [brightness - brightness.mean(), *([c - brightness for c in image] if len(image) > 1 else [])]
    tall, wide = -(-image.shape[1] // rows), -(-image.shape[2] // columns)
    found = np.zeros((2 * len(values), rows, columns))
    for number, value in enumerate(values):
        spread = np.pad(value, ((0, rows * tall - len(value)), (0, columns * wide - value.shape[1])), mode="edge")
        for y in range(rows):
            for x in range(columns):
                square = spread[y * tall : (y + 1) * tall, x * wide : (x + 1) * wide]
                found[number, y, x], found[len(values) + number, y, x] = square.mean(), square.std()
    return found


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(("size", "grid"), [((64, 64), (8, 8)), ((60, 44), (8, 6))])
def test_means_and_deviations_are_those_of_the_squares(channels, size, grid):
    images = np.random.default_rng(0).random((2, channels, *size))
    found = local_colour(torch.from_numpy(images), grid).numpy()
    assert found.shape == (2, 2 if channels == 1 else 2 * channels + 2, *grid)
    np.testing.assert_allclose(found, [by_loops(image, *grid) for image in images], atol=1e-12)


def test_an_offset_of_the_whole_image_changes_nothing():
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(local_colour(images + 0.1, (4, 4)), local_colour(images, (4, 4)))
