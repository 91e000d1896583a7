"""SuperSimpleNet: its losses by hand, and what labels without masks teach."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from blemish.dataset.sample import Dataset, Sample
from blemish.methods.few_shot.supersimplenet import (
    MIN_DEFECTS,
    SuperSimpleNet,
    SuperSimpleNetOptions,
    focal,
    resize_masks,
    truncated_l1,
)

CLASSES = ("good", "crack", "pit")


@pytest.fixture
def method():
    torch.manual_seed(0)
    options = SuperSimpleNetOptions(backbone="test_resnet", weights="random", image_size=64, strides=(4, 8), width=8)
    made = SuperSimpleNet(options, CLASSES)
    made.log_dict = lambda *args, **kwargs: None
    return made


def batch(labels, has_mask=True):
    count = len(labels)
    mask = torch.zeros(count, 64, 64, dtype=torch.bool)
    if has_mask:
        for i, label in enumerate(labels):
            mask[i, 10:30, 10:30] = label > 0
    return {
        "image": torch.rand(count, 3, 64, 64),
        "valid": torch.ones(count, 64, 64, dtype=torch.bool),
        "label": torch.tensor(labels),
        "defective": torch.tensor([int(label > 0) if label >= 0 else -1 for label in labels]),
        "mask": mask,
        "has_mask": torch.tensor([has_mask or label == 0 for label in labels]),
    }


def test_losses_by_hand():
    logits, target = torch.tensor([-2.0, 0.0, 0.2, 3.0]), torch.tensor([False, False, True, True])
    p = logits.sigmoid()
    own = torch.where(target, p, 1 - p)
    torch.testing.assert_close(focal(logits, target), -((1 - own) ** 4) * own.log())
    labelled = torch.ones(4, dtype=torch.bool)
    assert truncated_l1(logits, target, labelled).item() == pytest.approx((0 + 0.5) / 2 + (0.3 + 0) / 2)
    assert truncated_l1(logits, target, ~labelled).item() == 0


@pytest.mark.parametrize(
    ("score", "labels", "by_head"),
    [("auto", [0, -1], False), ("auto", [0, 1], True), ("map", [0, 1], False), ("head", [0, 0], True)],
)
def test_image_score_is_the_heads_with_enough_real_defects(method, score, labels, by_head):
    method.options = method.options.model_copy(update={"score": score})
    method.before_training(counted(MIN_DEFECTS))
    method.training_step(batch(labels), 0)
    method.eval()
    images = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        out = method(images)
        _, whole = method.heads(method.adaptor(method.features(images)))
    expected = whole.sigmoid() if by_head else out["anomaly_map"].flatten(1).amax(dim=1)
    torch.testing.assert_close(out["anomaly_score"], expected)


def test_fewer_real_defects_leave_the_score_to_the_map(method):
    method.before_training(counted(MIN_DEFECTS - 1))
    method.training_step(batch([0, 1]), 0)
    assert method.supervised
    assert not method.uses_head


def counted(defects):
    """Training images, so many of them defective."""
    labels = ["good"] * 3 + ["pit"] * defects
    return Dataset(tuple(Sample(Path(str(i)), label) for i, label in enumerate(labels)), Path(), "csv")


def test_an_image_labelled_without_a_mask_teaches_its_label_alone(method):
    method.supervised.fill_(True)
    seen = {}

    def heads(features):
        pixels = torch.zeros(len(features), *features.shape[-2:], requires_grad=True)
        images = torch.zeros(len(features), requires_grad=True)
        seen.update(pixels=pixels, images=images)
        return pixels, images

    method.heads = heads
    method.training_step(batch([1, 0], has_mask=False), 0).backward()
    slopes = seen["pixels"].grad.abs().flatten(1).sum(dim=1)
    assert slopes[0] == slopes[2] == 0  # the labelled one, and its noisy copy
    assert slopes[1] > 0
    assert seen["images"].grad[0] < 0  # pushed up
    assert seen["images"].grad[1] > 0


def test_an_image_of_which_nothing_is_known_teaches_nothing(method):
    torch.manual_seed(1)
    known = batch([0, 1], has_mask=False)
    losses = []
    for last in (0.0, 50.0):
        shown = []

        def heads(features, last=last, shown=shown):
            shown.append(features)
            pixels, images = torch.zeros(len(features), *features.shape[-2:]), torch.zeros(len(features))
            pixels[[2, 5]], images[[2, 5]] = last, last  # of the third image, and of its noisy copy
            return pixels, images

        method.heads = heads
        given = {key: torch.cat([known[key], batch([-1], has_mask=False)[key]]) for key in known}
        torch.manual_seed(2)
        losses.append(float(method.training_step(given, 0)))
    assert losses[0] == losses[1] > 0


def test_noise_is_never_put_on_real_defects_nor_where_nothing_counts(method):
    clean = []
    method.heads = lambda features: (clean.append(features), (features[:, 0], features.mean((1, 2, 3))))[1]
    given = batch([1, 1])
    given["valid"][:, :, 40:] = False
    method.training_step(given, 0)
    features, noisy = clean[0].chunk(2)
    defect = F.interpolate(given["mask"][:, None].float(), features.shape[-2:], mode="bilinear")[:, 0] >= 0.5
    changed = (features != noisy).any(dim=1)
    assert changed.any()
    assert not (changed & defect).any()
    assert not changed[:, :, changed.shape[2] * 40 // 64 :].any()


def test_masks_on_the_grid():
    masks = torch.zeros(3, 64, 64, dtype=torch.bool)
    masks[0, 16:32, 16:48] = True
    masks[1, 5, 6] = masks[1, 40, 60] = True  # two specks
    found = resize_masks(masks, torch.Size((8, 8)))
    expected = torch.zeros(3, 8, 8, dtype=torch.bool)
    expected[0, 2:4, 2:6] = True
    expected[1, 0, 0] = expected[1, 5, 7] = True
    assert (found == expected).all()


def test_defects_alone_are_mirrored_with_their_masks(method):
    item = {key: value[0] for key, value in batch([1]).items()}
    item["image"] = item["mask"].float().expand(3, -1, -1)
    found = [method.mirror_defective(item) for _ in range(40)]
    assert all((f["image"] == f["mask"]).all() for f in found)
    assert len({tuple(f["mask"].nonzero()[0].tolist()) for f in found}) == 4
    good = {key: value[0] for key, value in batch([0]).items()}
    assert all((method.mirror_defective(good)["image"] == good["image"]).all() for _ in range(10))


def test_image_head_teaches_the_map_only_under_supervision(method):
    features = torch.rand(2, sum(method.backbone.network.channels), 16, 16)
    for supervised in (False, True):
        method.supervised.fill_(supervised)
        method.zero_grad()
        method.heads(features)[1].sum().backward()
        taught = method.segment[0].weight.grad
        assert (taught is not None and bool(taught.abs().sum() > 0)) == supervised


def test_real_defects_are_drawn_for_their_share(method, tiny_data):
    weights = method.sampling_weights(tiny_data.dataset(("label",)).split("train"))
    dataset = tiny_data.dataset(("label",)).split("train")
    bad = sum(w for w, s in zip(weights, dataset.samples, strict=True) if s.defective)
    assert bad / sum(weights) == pytest.approx(0.5)
    assert method.sampling_weights(dataset.where(lambda s: not s.defective)) is None
