"""MAML: a network is taught to become right after a few steps of gradient descent on a few images."""

import copy
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.func import functional_call

from blemish.methods.base import Batch, MethodInfo, ignored_when
from blemish.methods.common.schedule import cosine_decay
from blemish.methods.few_shot.embedding import SMOKE, Embedding, FewShotMethod, FewShotOptions, sample_episode

Parameters = dict[str, Tensor]
HEAD = ("weight", "bias")  # of the last layer, among the parameters that are adapted


class MamlOptions(FewShotOptions):
    image_size: int = Field(96, ge=32, le=4096, description="side of the square that the network sees, in px")
    batch_size: int = Field(24, ge=4, description="images in a batch, of which an episode is made")
    anil: bool = Field(False, description="only the last layer is adapted (Raghu et al. 2020, ANIL); much faster")
    first_order: bool = Field(
        True,
        description="leave out second derivatives; false: the paper's own, slower; anil has them anyway",
        json_schema_extra=ignored_when("anil", True),
    )
    inner_steps: int = Field(5, ge=1, description="steps of adaptation to an episode")
    inner_rate: float = Field(
        0.01,
        gt=0,
        description="learning rate of the network's adaptation",
        json_schema_extra=ignored_when("anil", True),
    )
    head_rate: float = Field(2.0, gt=0, description="learning rate of the last layer's adaptation")
    final_images: int = Field(20, ge=1, description="images of a class, at most, that the shipped network adapts to")
    final_steps: int = Field(20, ge=1, description="steps of that adaptation")


class Maml(FewShotMethod):
    """Finn et al. 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML.

    Kept: gradient descent on an episode's support, and the loss on its query followed back through those steps to the
    start they began from; `first_order=false` with second derivatives, by default without (FOMAML); `anil=true` adapts
    the last layer alone (Raghu et al. 2020), always with them. Deviations: the last layer starts each episode at zero
    (Kao et al. 2022), so that any number of classes will do; it sees features less their mean over the support; a
    pretrained network with fixed BatchNorm statistics; one episode a step, a batch drawn with replacement, so that of
    few images one may be learnt from and asked about. What ships has been adapted to the training images of all
    classes.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="maml",
        branch="few_shot",
        title="MAML",
        paper="Finn et al. 2017, Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks, ICML",
        requires=("label",),
        answers=("what",),
        summary="Learns a start from which a few gradient steps on a few images suffice; ANIL and first-order forms.",
        smoke={**SMOKE, "steps": 4, "final_images": 6, "final_steps": 10},
        never_advised="slower than prototypical, and its bundle cannot be given further classes",
    )
    Options: ClassVar[type[FewShotOptions]] = MamlOptions
    options: MamlOptions

    def __init__(self, options: MamlOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.embedding = Embedding(options, channels)  # the start that is learnt
        self.adapted = copy.deepcopy(self.embedding).requires_grad_(False)  # from there, to the training images
        self.register_buffer("weight", torch.zeros(len(classes), self.embedding.size))
        self.register_buffer("bias", torch.zeros(len(classes)))
        self.register_buffer("centre", torch.zeros(self.embedding.size))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        embedding = self.adapted(images)
        logits = F.linear(embedding - self.centre, self.weight, self.bias)
        return {"class_scores": logits.softmax(dim=1), "embedding": embedding}

    def embed(self, fast: Parameters, images: Tensor) -> Tensor:
        body = {name: value for name, value in fast.items() if name not in HEAD}
        return functional_call(self.embedding, body, (images,)) if body else self.embedding(images)

    def adapt(self, images: Tensor, labels: Tensor, ways: int, steps: int) -> tuple[Parameters, Tensor]:
        """The parameters after some steps on the support, and the mean of its features, which the head leaves out.

        Each class counts alike. With ANIL the parameters are the head's alone.
        """
        anil = self.options.anil
        share = 1 / labels.bincount(minlength=ways).clamp(min=1).to(images)[labels]
        share = share / share.sum()
        features = self.embedding(images)
        centre = (share[:, None] * features).sum(dim=0)
        exact = torch.is_grad_enabled() and (anil or not self.options.first_order)
        fast: Parameters = {
            "weight": images.new_zeros(ways, self.embedding.size),
            "bias": images.new_zeros(ways),
        }
        if not anil:
            fast |= dict(self.embedding.named_parameters())
        for step in range(steps):
            # While the head is zero the loss has no slope in the network.
            if anil or step == 0:
                slopes = head_slopes(fast, features - centre, labels, share)
            else:
                slopes = self.slopes(fast, images, centre, labels, share, exact)
            for name, slope in slopes.items():
                rate = self.options.head_rate if name in HEAD else self.options.inner_rate
                fast[name] = fast[name] - rate * (slope if exact else slope.detach())
        return fast, centre

    def slopes(
        self, fast: Parameters, images: Tensor, centre: Tensor, labels: Tensor, share: Tensor, exact: bool
    ) -> Parameters:
        """Of the loss in each of the parameters; where not `exact`, without a way back to the start."""
        if exact:  # as they stand, not as what they came from
            fast = {name: value.view_as(value) for name, value in fast.items()}
        else:
            fast, centre = {name: value.detach().requires_grad_() for name, value in fast.items()}, centre.detach()
        with torch.enable_grad():
            logits = F.linear(self.embed(fast, images) - centre, fast["weight"], fast["bias"])
            loss = (share * F.cross_entropy(logits, labels, reduction="none")).sum()
            found = torch.autograd.grad(loss, list(fast.values()), create_graph=exact, materialize_grads=True)
        return dict(zip(fast, found, strict=True))

    def training_step(self, batch: Batch, index: int) -> Tensor:
        images, labels = batch["image"], batch["label"]
        episode = sample_episode(labels, self.options.ways, self.options.shots)
        if episode is None:
            return self.embedding(images[:1]).sum() * 0
        fast, centre = self.adapt(
            images[episode.support], episode.support_labels, episode.ways, self.options.inner_steps
        )
        logits = F.linear(self.embed(fast, images[episode.query]) - centre, fast["weight"], fast["bias"])
        loss = F.cross_entropy(logits, episode.query_labels)
        right = (logits.argmax(dim=1) == episode.query_labels).float().mean()
        self.log_dict({"loss": loss, "episode_accuracy": right}, prog_bar=True)
        return loss

    def on_train_end(self) -> None:
        """Adapt to the training images of all classes."""
        self.eval()
        held = [0] * len(self.classes)
        images, labels = [], []
        for batch in self.labelled_batches():
            for image, label in zip(batch["image"], batch["label"].tolist(), strict=True):
                held[label] += 1
                if held[label] <= self.options.final_images:
                    images.append(image)
                    labels.append(label)
        with torch.no_grad():
            own = torch.tensor(labels, device=self.device)
            fast, centre = self.adapt(torch.stack(images), own, len(self.classes), self.options.final_steps)
        body = {name: value for name, value in fast.items() if name not in HEAD}
        self.adapted.load_state_dict({**self.embedding.state_dict(), **body})
        self.weight, self.bias = (fast[name] for name in HEAD)
        self.centre = centre

    def classify(self, support: NDArray[Any], labels: NDArray[np.int64], query: NDArray[Any]) -> NDArray[np.int64]:
        """Labels of query images (N, C, H, W) after adapting to support images: `evaluation.episodes.Classify`.

        Begins at the learnt start, not at what ships, which knows the training classes already.
        """
        self.eval()
        known = torch.from_numpy(labels).to(self.device)
        with torch.no_grad():
            fast, centre = self.adapt(
                torch.from_numpy(support).to(self.device), known, int(labels.max()) + 1, self.options.inner_steps
            )
            features = self.embed(fast, torch.from_numpy(query).to(self.device)) - centre
            return F.linear(features, fast["weight"], fast["bias"]).argmax(dim=1).cpu().numpy()

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.Adam(self.embedding.parameters(), lr=self.options.learning_rate)
        return cosine_decay(optimizer, self.options.steps)


def head_slopes(fast: Parameters, centred: Tensor, labels: Tensor, share: Tensor) -> Parameters:
    """Of the weighted cross-entropy of features less their mean, in the last layer alone."""
    logits = F.linear(centred, fast["weight"], fast["bias"])
    error = share[:, None] * (logits.softmax(dim=1) - F.one_hot(labels, logits.shape[1]))
    return {"weight": error.T @ centred, "bias": error.sum(dim=0)}
