"""The size of PatchCore's bank, and rotated views."""

import pytest
import torch

from blemish.methods.catalogue import method_class
from blemish.methods.feature_distance import patchcore

CLASSES = ("good", "defect")


@pytest.mark.parametrize(("patches", "kept"), [(512, 512), (3000, 2000), (300_000, 3000)])
def test_bank_keeps_a_minimum_of_patches_of_few_images(patches, kept):
    """One in a hundred is for hundreds of images; of two it would leave five patches."""
    method = patchcore.PatchCore(
        patchcore.PatchCoreOptions(image_size=64, weights="random", backbone="test_resnet"), ()
    )
    assert min(patches, method._bank_size(patches)) == kept


SMALL_VIT = {"backbone": "vit_tiny_patch16_224", "weights": "random", "image_size": 64}


@pytest.mark.parametrize("name", ["patchcore", "anomaly-dino"])
@pytest.mark.parametrize("rotations", [1, 4])
def test_a_bank_of_rotated_images_matches_a_rotated_part(name, rotations):
    torch.manual_seed(0)
    own = {"coreset_ratio": 1.0, "image_size": 64} if name == "patchcore" else SMALL_VIT
    kind = method_class(name)
    method = kind(kind.Options(**own, rotations=rotations), CLASSES).eval()
    image, valid = torch.rand(1, 3, 64, 64), torch.ones(1, 64, 64, dtype=torch.bool)
    valid[:, :16] = False
    with torch.inference_mode():
        method.training_step({"image": image, "valid": valid}, 0)
        method.finish()
        straight, across = (float(method(x)["anomaly_map"].amin()) for x in (image, image.rot90(1, (2, 3))))
    assert straight == pytest.approx(0, abs=1e-3)
    assert (across < 1e-3) == (rotations == 4)
    locations = int(valid[:, 8::16, 8::16].sum()) if name == "anomaly-dino" else int(valid[:, 4::8, 4::8].sum())
    assert len(method.bank) == rotations * locations
