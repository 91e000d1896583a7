"""STFPM's student and teacher."""

import torch

from blemish.methods.common.anomaly import anomaly_outputs
from blemish.methods.feature_distance.stfpm import STFPM, STFPMOptions

CLASSES = ("good", "defect")


def test_student_learns_and_teacher_stays():
    torch.manual_seed(0)
    method = STFPM(STFPMOptions(image_size=64, learning_rate=0.1), CLASSES)
    images = torch.rand(8, 3, 64, 64)
    optimizer = method.configure_optimizers()
    before = {name: tensor.clone() for name, tensor in method.teacher.state_dict().items()}
    losses = []
    for _ in range(12):
        loss = torch.stack([m.mean() for m in method.train().distances(images)]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 2  # of three maps, each about 1 for features that have nothing in common
    assert losses[-1] < 0.9 * losses[0]
    for name, tensor in method.teacher.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


@torch.no_grad()
def test_paper_score_is_the_maximum_of_the_product():
    torch.manual_seed(0)
    images = torch.rand(3, 3, 64, 64)
    paper = STFPM(STFPMOptions(image_size=64, blur=0, worst_share=0), CLASSES).eval()
    enlarged = [
        torch.nn.functional.interpolate(m[:, None], size=(64, 64), mode="bilinear")[:, 0]
        for m in paper.distances(images)
    ]
    product = enlarged[0] * enlarged[1] * enlarged[2]
    outputs = paper(images)
    torch.testing.assert_close(outputs["anomaly_map"], product)
    torch.testing.assert_close(outputs["anomaly_score"], product.amax(dim=(1, 2)))


@torch.no_grad()
def test_one_noisy_pixel_does_not_decide():
    """By the mean of the worst hundredth a defect of a hundred pixels scores above a single, higher pixel."""
    noisy, defective = torch.zeros(1, 100, 100), torch.zeros(1, 100, 100)
    noisy[0, 0, 50], defective[0, 40:50, 40:50] = 2.0, 1.0
    maps = torch.cat([noisy, defective])
    by_maximum, by_worst = (anomaly_outputs(maps, worst_share=share)["anomaly_score"] for share in (0.0, 0.01))
    assert by_maximum.tolist() == [2.0, 1.0]
    torch.testing.assert_close(by_worst, torch.tensor([0.02, 1.0]))
