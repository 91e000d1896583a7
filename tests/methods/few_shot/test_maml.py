"""MAML: adaptation, first and second order gradients, the shipped network."""

import pytest
import torch
import torch.nn.functional as F

from blemish.methods.few_shot.maml import Maml, MamlOptions

TINY = {"backbone": "test_resnet", "weights": "random", "strides": (4, 8), "image_size": 32}


@pytest.mark.parametrize("anil", [True, False])
def test_one_inner_step_by_autograd(anil):
    torch.manual_seed(0)
    method = Maml(MamlOptions(**TINY, anil=anil, inner_steps=1), ("a", "b"))
    images, labels = torch.rand(4, 3, 32, 32), torch.tensor([0, 0, 1, 1])
    fast, centre = method.adapt(images, labels, 2, 1)
    features = method.embedding(images)
    torch.testing.assert_close(centre, features.mean(0))
    weight = torch.zeros(2, method.embedding.size, requires_grad=True)
    loss = F.cross_entropy((features - centre.detach()) @ weight.T, labels)
    (slope,) = torch.autograd.grad(loss, weight)
    torch.testing.assert_close(fast["weight"], -method.options.head_rate * slope)
    assert (set(fast) == {"weight", "bias"}) == anil


def test_first_and_second_order_gradients_reach_the_initial_parameters():
    slopes = []
    images, labels = torch.rand(6, 3, 32, 32), torch.tensor([0, 0, 0, 1, 1, 1])
    for first_order in (True, False):
        torch.manual_seed(0)
        options = MamlOptions(**TINY, first_order=first_order, inner_steps=2, inner_rate=0.5)
        method = Maml(options, ("a", "b"))
        fast, centre = method.adapt(images, labels, 2, 2)
        loss = F.cross_entropy(F.linear(method.embed(fast, images) - centre, fast["weight"], fast["bias"]), labels)
        loss.backward()
        slopes.append(torch.cat([p.grad.flatten() for p in method.embedding.parameters() if p.grad is not None]))
    assert all(slope.abs().sum() > 0 for slope in slopes)
    assert (slopes[0] - slopes[1]).abs().max() > 1e-3 * slopes[0].abs().max()


def adapted_as_in_the_paper(method, images, labels, ways, steps, exact):
    """Every step through the whole network, by nested gradients."""
    share = 1 / labels.bincount(minlength=ways).to(images)[labels]
    share = share / share.sum()
    features = method.embedding(images)
    centre = (share[:, None] * features).sum(dim=0)
    fast = {"weight": images.new_zeros(ways, method.embedding.size), "bias": images.new_zeros(ways)}
    if not method.options.anil:
        fast |= dict(method.embedding.named_parameters())

    def loss(now):
        seen = features if method.options.anil else method.embed(now, images)
        logits = F.linear(seen - centre, now["weight"], now["bias"])
        return (share * F.cross_entropy(logits, labels, reduction="none")).sum()

    for _ in range(steps):
        slopes = torch.func.grad(loss)(fast)
        for name, slope in slopes.items():
            rate = method.options.head_rate if name in ("weight", "bias") else method.options.inner_rate
            fast[name] = fast[name] - rate * (slope if exact else slope.detach())
    return fast, centre


@pytest.mark.parametrize(("anil", "first_order"), [(False, True), (False, False), (True, True)])
def test_adaptation_equals_plain_autograd(anil, first_order):
    torch.manual_seed(0)
    options = MamlOptions(**TINY, anil=anil, first_order=first_order, inner_rate=0.2)
    method = Maml(options, ("a", "b", "c")).double()
    images, labels = torch.rand(5, 3, 32, 32, dtype=torch.double), torch.tensor([0, 0, 1, 1, 2])
    query = torch.rand(3, 3, 32, 32, dtype=torch.double)
    seen = []
    for adapt in (method.adapt, lambda *a: adapted_as_in_the_paper(method, *a, exact=anil or not first_order)):
        fast, centre = adapt(images, labels, 3, 3)
        loss = F.cross_entropy(F.linear(method.embed(fast, query) - centre, fast["weight"], fast["bias"]), labels[2:])
        slopes = torch.autograd.grad(loss, list(method.embedding.parameters()), materialize_grads=True)
        seen.append({name: value.detach() for name, value in fast.items()})
        seen[-1]["slopes"] = torch.cat([slope.flatten() for slope in slopes])
    assert seen[0]["slopes"].abs().sum() > 0
    for name, value in seen[0].items():
        torch.testing.assert_close(value, seen[1][name], rtol=1e-6, atol=1e-9)
    with torch.no_grad():
        for name, value in method.adapt(images, labels, 3, 3)[0].items():
            torch.testing.assert_close(value, seen[1][name], rtol=1e-6, atol=1e-9)


def test_second_order_gradient_against_finite_differences():
    torch.manual_seed(0)
    method = Maml(MamlOptions(**TINY, first_order=False, inner_steps=2, inner_rate=0.2), ("a", "b")).double()
    images, labels = torch.rand(4, 3, 32, 32, dtype=torch.double), torch.tensor([0, 0, 1, 1])
    query = torch.rand(4, 3, 32, 32, dtype=torch.double)

    def outer():
        fast, centre = method.adapt(images, labels, 2, 2)
        return F.cross_entropy(F.linear(method.embed(fast, query) - centre, fast["weight"], fast["bias"]), labels)

    parameter = next(p for p in method.embedding.parameters() if p.dim() == 4)
    (slope,) = torch.autograd.grad(outer(), parameter)
    place = tuple(int(i) for i in torch.unravel_index(slope.abs().argmax(), slope.shape))
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            parameter[place] += sign * 1e-5
        values.append(float(outer()))
        with torch.no_grad():
            parameter[place] -= sign * 1e-5
    assert float(slope[place]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-3)


@pytest.mark.parametrize("anil", [True, False])
def test_shipped_network_is_adapted_and_the_initial_parameters_are_kept(anil):
    torch.manual_seed(0)
    method = Maml(MamlOptions(**TINY, anil=anil, final_steps=3, inner_rate=0.5), ("a", "b"))
    start = {name: value.clone() for name, value in method.embedding.state_dict().items()}
    batch = {"image": torch.rand(6, 3, 32, 32), "label": torch.tensor([0, 0, 0, 1, 1, 1])}
    method.finish_training([batch], 6)
    for name, value in method.embedding.state_dict().items():
        torch.testing.assert_close(value, start[name], rtol=0, atol=0)
    fast, centre = method.adapt(batch["image"], batch["label"], 2, 3)
    with torch.no_grad():
        expected = F.linear(method.embed(fast, batch["image"]) - centre, fast["weight"], fast["bias"]).softmax(dim=1)
        outputs = method(batch["image"])
        same = torch.allclose(outputs["embedding"], method.embedding(batch["image"]), atol=1e-6)
    torch.testing.assert_close(outputs["class_scores"], expected, rtol=1e-4, atol=1e-5)
    assert same == anil
