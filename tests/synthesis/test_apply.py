"""Synthetic defects: exact masks, on the part, the same from the same seed; steps against what they claim to do."""

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest

from blemish.synthesis import geometric, photometric, shapes
from blemish.synthesis.apply import apply, sample_steps, used_scale
from blemish.synthesis.cutouts import DefectCutout, cut_out
from blemish.synthesis.defect_spec import (
    Affine,
    Blur,
    Light,
    MotionBlur,
    Noise,
    Paste,
    SaltAndPepper,
    parse_defect_spec,
)
from blemish.synthesis.noise import perlin_mask, perlin_noise
from blemish.synthesis.paste import blend_cutout, match_brightness, mirror_cutout
from blemish.synthesis.scene import find_free_position, find_part_mask

DEFECTS = ("scratch", "crack", "pit", "stain", "dent", "overlay", "cutpaste", "scar", "paste")
SIZE = (120, 150)


def surface(channels=3, seed=5):
    rng = np.random.default_rng(seed)
    return np.clip(0.5 + 0.05 * rng.standard_normal((*SIZE, channels)), 0, 1).astype(np.float32)


def on_background(channels=3):
    """A grey disc on white, and its pixels."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    disc = np.hypot(y - 60, x - 80) < 45
    return np.where(disc[..., None], surface(channels), np.float32(1)).astype(np.float32), disc


def one_cut(channels=3):
    image = surface(channels, seed=8)
    mask = np.zeros(SIZE, bool)
    mask[40:50, 60:80] = True
    image[mask] = 0.05
    return cut_out(image, mask, "nick", "here.png")


def made(kind, image, seed=3, **fields):
    spec = parse_defect_spec({"steps": [{"kind": kind, **fields}], "visible": 0.01})
    return apply(spec, image, (seed,), cuts=[one_cut(image.shape[2])])


@pytest.mark.parametrize("kind", [*DEFECTS, "noise", "salt-and-pepper", "light", "blur", "affine"])
def test_a_grey_image_of_several_channels_stays_grey(kind):
    grey = surface(1)
    spec = parse_defect_spec({"steps": [{"kind": kind}], "visible": 0.01})
    for seed in range(3):
        scene = apply(spec, np.repeat(grey, 3, axis=2), (seed,), cuts=[one_cut()])
        assert scene.image.shape == (*SIZE, 3)
        assert np.ptp(scene.image, axis=2).max() == 0
        assert np.abs(scene.image - grey).max() > 0.01
        alone = apply(spec, grey, (seed,), cuts=[one_cut()])
        np.testing.assert_array_equal(scene.image[..., :1], alone.image)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", DEFECTS)
def test_mask_is_where_the_image_changed(kind, channels):
    image = surface(channels)
    before = image.copy()
    for seed in range(4):
        scene = made(kind, image, seed)
        assert len(scene.defects) == 1, seed
        mask = scene.defects[0].mask
        changed = (np.abs(scene.image - image) > 1e-6).any(axis=2)
        assert changed[mask].mean() > 0.85  # some pixels of a texture happen to agree
        rows, columns = np.nonzero(mask)
        near = np.zeros(SIZE, bool)
        near[max(0, rows.min() - 9) : rows.max() + 10, max(0, columns.min() - 9) : columns.max() + 10] = True
        assert not (changed & ~near).any()
        assert np.abs(scene.image - image)[mask].mean() > 3 * np.abs(scene.image - image)[~mask].mean()
        assert scene.image.dtype == np.float32
        assert scene.image.min() >= 0
        assert scene.image.max() <= 1
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("kind", DEFECTS)
def test_nothing_off_the_part_changes(kind):
    image, disc = on_background()
    hits = 0
    for seed in range(5):
        scene = made(kind, image, seed, **({"area": [0.002, 0.05]} if kind == "cutpaste" else {}))
        for defect in scene.defects:
            hits += 1
            assert disc[defect.mask].all()
        np.testing.assert_array_equal(scene.image[~disc], image[~disc])
    assert hits


@pytest.mark.parametrize("kind", DEFECTS)
def test_same_seed_same_image_and_another_seed_another(kind):
    first, again, other = (made(kind, surface(), seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.image, again.image)
    assert first.defects[0].seed == again.defects[0].seed
    assert not np.array_equal(first.image, other.image)


def test_a_step_does_not_depend_on_the_others():
    alone = apply(parse_defect_spec([{"kind": "scratch"}]), surface(), (1,))
    more = apply(parse_defect_spec([{"kind": "scratch"}, {"kind": "pit"}]), surface(), (1,))
    np.testing.assert_array_equal(alone.defects[0].mask, more.defects[0].mask)
    assert {d.kind for d in more.defects} == {"scratch", "pit"}
    assert not (more.defects[0].mask & more.defects[1].mask).any()


def test_valid_pixels_limit_where_defects_lie():
    valid = np.zeros(SIZE, bool)
    valid[:, 75:] = True
    for seed in range(6):
        scene = apply(parse_defect_spec([{"kind": "pit", "count": [3, 3]}]), surface(), (seed,), valid=valid)
        assert scene.defects
        assert not any(defect.mask[~valid].any() for defect in scene.defects)


def test_an_image_without_room_or_without_effect_stays_good():
    narrow = np.zeros(SIZE, bool)
    narrow[0, 0] = True
    assert not apply(parse_defect_spec([{"kind": "stain"}]), surface(), (0,), valid=narrow).defects
    flat = np.full((*SIZE, 1), 0.5, np.float32)
    unseen = parse_defect_spec({"steps": [{"kind": "scar", "jitter": 0.0}]})
    assert not apply(unseen, flat, (0,)).defects


def test_probabilities_and_picks():
    steps = [{"kind": "scratch", "p": 0.3}, {"kind": "pit", "p": 0.1}, {"kind": "blur"}]
    rng = np.random.default_rng(0)
    free = [sample_steps(parse_defect_spec(steps), rng) for _ in range(2000)]
    assert np.mean([0 in c for c in free]) == pytest.approx(0.3, abs=0.04)
    picked = [sample_steps(parse_defect_spec({"steps": steps, "pick": [1, 1]}), rng) for _ in range(2000)]
    assert all(len(c) == 2 and 2 in c for c in picked)
    assert np.mean([0 in c for c in picked]) == pytest.approx(0.75, abs=0.04)  # 0.3 : 0.1


def test_part_is_found_on_a_plain_background_alone():
    image, disc = on_background()
    assert (find_part_mask(image) ^ disc).mean() < 0.01
    assert find_part_mask(1 - image)[disc].mean() > 0.98
    assert find_part_mask(surface()).all()


def test_a_hole_in_the_part_belongs_to_it():
    image, _ = on_background()
    image[55:65, 75:85] = 1.0
    assert find_part_mask(image)[55:65, 75:85].all()


def test_places_are_on_free_pixels():
    rng = np.random.default_rng(0)
    free = np.zeros((40, 40), bool)
    free[10:20, 5:30] = True
    shape = np.ones((6, 9), bool)
    for _ in range(20):
        top, left = find_free_position(rng, shape, free)
        assert free[top : top + 6, left : left + 9].all()
    assert find_free_position(rng, np.ones((11, 3), bool), free) is None


@pytest.mark.parametrize("cells", [(1, 1), (2, 4), (8, 2)])
def test_perlin_noise_by_brute_force(cells):
    size = 16
    found = perlin_noise(np.random.default_rng(0), size, size, cells)
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    fade = np.polynomial.Polynomial([0, 0, 0, 10, -15, 6])
    for row, column in itertools.product(range(size), range(size)):
        y, x = row * cells[0] / size, column * cells[1] / size
        total = 0.0
        for node_y, node_x in itertools.product((int(y), int(y) + 1), (int(x), int(x) + 1)):
            direction = np.array([np.sin(angle[node_y, node_x]), np.cos(angle[node_y, node_x])])
            offset = np.array([y - node_y, x - node_x])
            total += direction @ offset * fade(1 - abs(offset[0])) * fade(1 - abs(offset[1]))
        assert found[row, column] == pytest.approx(2**0.5 * total, abs=1e-5)
    assert np.abs(found[:: size // cells[0], :: size // cells[1]]).max() < 1e-6


def test_perlin_patches_are_patches():
    rng = np.random.default_rng(0)
    masks = np.stack([perlin_mask(rng, 64, 64) for _ in range(60)])
    shares = masks.mean(axis=(1, 2))
    assert 0.01 < shares.mean() < 0.4
    assert shares.std() > 0.01
    assert (masks[:, 1:] == masks[:, :-1]).mean() > 0.9


def test_colour_match_takes_the_ring_to_the_target():
    piece = one_cut()
    target = np.full_like(piece.pixels, 0.3)
    moved = match_brightness(piece.pixels, piece.mask, target, 1.0)
    near = np.zeros_like(piece.mask)
    rows, columns = np.nonzero(piece.mask)
    near[rows.min() - 4 : rows.max() + 5, columns.min() - 4 : columns.max() + 5] = True
    assert moved[near & ~piece.mask].mean() == pytest.approx(0.3, abs=0.02)
    np.testing.assert_array_equal(match_brightness(piece.pixels, piece.mask, target, 0.0), piece.pixels)


@pytest.mark.parametrize("poisson", [True, False])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pasting_keeps_the_defect_and_its_surroundings(poisson, channels):
    piece = one_cut(channels)
    image = np.full((*SIZE, channels), 0.7, np.float32)
    step = Paste(kind="paste", edge=2)
    result = blend_cutout(image, np.ones(SIZE, bool), piece, (30, 40), step, poisson)
    mask = np.zeros(SIZE, bool)
    mask[30 : 30 + piece.mask.shape[0], 40 : 40 + piece.mask.shape[1]] = piece.mask
    assert result[mask].mean() < 0.45  # the nick is dark here as well
    # The nick changes its place by some 0.5; from its outline on, the change fades to nothing over the edge's width.
    beside = [cv2.dilate(mask.astype(np.uint8), np.ones((2 * px + 1,) * 2)) == 0 for px in (0, 1, 2)]
    changes = [float(np.abs(result - image).max(axis=2)[where].max()) for where in beside]
    assert changes[0] < 0.2
    assert changes[1] < 0.6 * changes[0]
    assert changes[2] == 0
    changed = (result != image).any(axis=2)
    assert 0 < changed.sum() < 3 * mask.sum()


def test_a_border_defect_stays_at_its_border():
    image = surface()
    mask = np.zeros(SIZE, bool)
    mask[50:70, :12] = True
    image[mask] = 0
    piece = cut_out(image, mask, "break", "x")
    assert piece.sides == (True, False, False, False)
    assert mirror_cutout(piece, True, False).sides == (False, False, True, False)
    spec = parse_defect_spec([{"kind": "paste"}])
    for seed in range(6):
        scene = apply(spec, surface(), (seed,), cuts=[piece])
        assert scene.defects[0].mask[:, [0, -1]].any()
        assert scene.defects[0].label == "break"


def test_defects_too_large_or_too_small_are_not_cut():
    mask = np.zeros(SIZE, bool)
    mask[3, 3] = True
    assert cut_out(surface(), mask, "a", "") is None
    assert cut_out(surface(), np.ones(SIZE, bool), "a", "") is None


def test_geometric_steps_move_image_and_mask_alike():
    mask = np.zeros(SIZE, bool)
    mask[50:70, 60:90] = True
    image = mask[..., None].astype(np.float32)
    spec = parse_defect_spec([{"kind": "affine", "turn": [20, 20], "mirror": True}, {"kind": "elastic"}])
    scene = apply(spec, image, (4,), defects=False)
    assert len(scene.warps) == 2
    moved = mask
    for where in scene.warps:
        moved = geometric.warp_mask(moved, where)
    assert ((scene.image[..., 0] > 0.5) ^ moved).mean() < 0.01
    assert (moved ^ mask).any()


def test_affine_against_a_turn_by_hand():
    step = Affine(kind="affine", turn=(90, 90), scale=(1, 1), shift=(0, 0), shear=(0, 0))
    image = np.random.default_rng(0).random((31, 31, 1), np.float32)
    warped = geometric.warp_image(image, geometric.affine((31, 31), step, np.random.default_rng(0)))
    np.testing.assert_allclose(warped, np.rot90(image, -1), atol=1e-4)


@pytest.mark.parametrize("kind", ["affine", "elastic"])
@pytest.mark.parametrize("gap", [0, 3])
def test_a_defect_near_the_border_is_there_once(kind, gap):
    """A bright square on a dark ground is moved inwards: where it is bright, there is one defect, and its mask."""
    steps = {"affine": {"shift": [0.1, 0.1], "turn": [5, 5]}, "elastic": {"reach": [0.02, 0.02]}}
    image = np.zeros((64, 64, 1), np.float32)
    image[10:20, gap : gap + 10] = 1
    mask = image[..., 0] > 0
    spec = parse_defect_spec([{"kind": kind, **steps[kind]}])
    for seed in range(5):
        where = apply(spec, image, (seed,), defects=False).warps[0]
        warped, moved = geometric.warp_image(image, where)[..., 0] > 0.5, geometric.warp_mask(mask, where)
        assert cv2.connectedComponents(moved.astype(np.uint8), connectivity=8)[0] == 2  # the ground is one of them
        assert (warped ^ moved).sum() <= 0.15 * moved.sum()
        assert moved.sum() < 1.5 * mask.sum() or not gap
        count = geometric.warp_valid(np.ones((64, 64), bool), where)
        inside = [(np.rint(w) >= 0) & (np.rint(w) <= 63) for w in where]
        np.testing.assert_array_equal(count, inside[0] & inside[1])


def test_photometric_steps():
    rng = np.random.default_rng(0)
    image = np.full((100, 100, 1), 0.5, np.float32)
    noisy = photometric.noise(image, Noise(kind="noise", sigma=(0.02, 0.02)), rng)
    assert noisy.std() == pytest.approx(0.02, rel=0.1)
    spotted = photometric.salt_and_pepper(image, SaltAndPepper(kind="salt-and-pepper", share=(0.1, 0.1)), rng)
    assert (spotted != 0.5).mean() == pytest.approx(0.1, abs=0.015)
    assert set(np.unique(spotted)) == {0, 0.5, 1}
    lit = photometric.light(image, Light(kind="light", gradient=(0.3, 0.3), gain=(1, 1)), rng)
    assert lit.mean() == pytest.approx(0.5, abs=1e-3)
    assert 0.1 < lit.max() - lit.min() < 0.3
    point = np.zeros((41, 41, 1), np.float32)
    point[20, 20] = 1
    blurred = photometric.blur(point, Blur(kind="blur", sigma=(1.5, 1.5)), rng)
    y = np.arange(41)[:, None, None] - 20
    assert blurred.sum() == pytest.approx(1, abs=1e-3)
    assert np.sqrt((blurred * y**2).sum()) == pytest.approx(1.5, rel=0.05)
    moved = photometric.motion_blur(point, MotionBlur(kind="motion-blur", length=(9, 9), turn=(0, 0)), rng)
    assert np.flatnonzero(moved.max(axis=(1, 2)) > 1e-6).tolist() == [20]
    assert (moved[20] > 0.02).sum() in (9, 10)


def test_a_cut_of_other_channels_is_not_pasted():
    spec = parse_defect_spec([{"kind": "paste"}])
    piece = DefectCutout(np.zeros((9, 9, 1), np.float32), np.ones((9, 9), bool), "a", "")
    assert not apply(spec, surface(3), (0,), cuts=[piece]).defects


@pytest.mark.parametrize("kind", ["scratch", "crack"])
def test_thin_lines_stay_in_one_piece(kind):
    """Hardly one of 40 lines about a pixel wide is broken, and their masks are no wider than their coverage."""
    pieces, wider = [], []
    for seed in range(40):
        shape = shapes.IRREGULAR_SHAPES[kind](np.random.default_rng(seed), 80.0, 1.2)
        cover, mask = shape.coverage, shape.mask
        pieces.append(cv2.connectedComponents(mask.astype(np.uint8))[0] - 1)
        wider.append(mask.sum() / cover.sum())
        assert not mask[cover == 0].any()
    assert np.mean(pieces) < 1.25
    assert 0.9 < np.mean(wider) < 1.25


@pytest.mark.parametrize("kind", ["scratch", "crack", "pit", "dent"])
def test_wide_shapes_are_where_half_is_covered(kind):
    shape = shapes.IRREGULAR_SHAPES[kind](np.random.default_rng(0), 60.0, 30.0)
    cover, mask = shape.coverage, shape.mask
    assert (mask != (cover >= 0.5)).sum() <= 0.02 * mask.sum()


@pytest.mark.parametrize("kind", ["pit", "scratch", "stain", "dent", "crack", "overlay", "cutpaste", "paste"])
def test_defects_on_twelve_of_sixteen_bits_equal_those_on_full_scale(kind):
    """The same picture at a sixteenth of full scale gets the same defects, a sixteenth as strong."""
    image = surface()
    spec, cuts = parse_defect_spec([{"kind": kind}]), [one_cut(image.shape[2])]
    dark = [replace(piece, pixels=piece.pixels / 16) for piece in cuts]
    bright, dim = (
        apply(spec, image, (3,), cuts=cuts),
        apply(spec, image / 16, (3,), cuts=dark, level=used_scale(image / 16, dark)),
    )
    assert len(bright.defects) == 1
    np.testing.assert_array_equal(dim.defects[0].mask, bright.defects[0].mask)
    np.testing.assert_allclose(16 * dim.image, bright.image, atol=1e-5)
    assert dim.level == 1 / 16
