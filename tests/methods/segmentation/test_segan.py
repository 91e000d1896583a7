"""SegAN's critic and what it exports."""

import torch

from blemish.methods.segmentation.segan import Critic, SegAN, mask_images
from blemish.methods.segmentation.unet import UNet
from blemish.training.learn.options import check_options

CLASSES = ("good", "pit", "scratch")


SMALL = {"image_size": 64, "backbone": "test_resnet", "weights": "random", "width": 4}


def test_critic_distance_of_equal_images_is_zero_and_weights_are_clipped():
    torch.manual_seed(0)
    critic = Critic(2, 4)
    images, masks = torch.rand(2, 1, 32, 32), torch.rand(2, 2, 32, 32)
    a = mask_images(images, masks)
    assert torch.equal(a[:, 1:], images * masks[:, 1:])
    assert float(critic.distance(a, a.clone())) < 1e-6
    assert float(critic.distance(a, mask_images(images, 1 - masks))) > 0
    critic.clip(0.01)
    assert max(float(p.detach().abs().max()) for p in critic.parameters()) <= 0.01


def test_segan_ships_the_graph_of_its_unet():
    gan = SegAN(check_options(SegAN.Options, SMALL, "segan"), CLASSES)
    alone = UNet(check_options(UNet.Options, SMALL, "unet"), CLASSES)
    alone.network.load_state_dict(gan.network.state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(gan.eval()(images), alone.eval()(images))
    critics = {id(p) for p in gan.critic.parameters()}
    assert critics.isdisjoint(id(p) for p in gan.trained_parameters())
