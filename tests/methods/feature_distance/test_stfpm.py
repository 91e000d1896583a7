"""STFPM's student and teacher."""

import torch

from blemish.methods.feature_distance.stfpm import STFPM, STFPMOptions

CLASSES = ("good", "defect")


def test_student_learns_and_teacher_stays():
    torch.manual_seed(0)
    method = STFPM(STFPMOptions(image_size=64, learning_rate=0.1), CLASSES)
    images = torch.rand(8, 3, 64, 64)
    optimizer = method.configure_optimizers()["optimizer"]
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
