"""MAML: a network is trained so that a few steps of gradient descent on a few images suffice."""

import copy
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.func import functional_call

from blemish.methods.base import Batch, MethodInfo, ignored_when
from blemish.methods.common.backbones import StateDict
from blemish.methods.common.schedule import cosine_decay
from blemish.methods.few_shot.embedding import SMOKE, BatchEpisode, Embedding, FewShotMethod, FewShotOptions

HEAD = ("weight", "bias")  # names of the last layer among the adapted parameters


class MamlOptions(FewShotOptions):
    image_size: int = Field(96, ge=32, le=4096, description="side of the square that the network sees, in px")
    batch_size: int = Field(24, ge=4, description="images in a batch, of which an episode is made")
    anil: bool = Field(False, description="adapt the last layer only (Raghu et al. 2020, ANIL); much faster")
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
    final_images: int = Field(20, ge=1, description="images of a class, at most, for adapting the shipped network")
    final_steps: int = Field(20, ge=1, description="steps of that adaptation")


class Maml(FewShotMethod):
    """Finn et al. 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML.

    Kept: gradient descent on an episode's support, and the query loss differentiated through those steps with respect
    to the initial parameters; `first_order=false` with second derivatives, by default without (FOMAML); `anil=true`
    adapts the last layer only (Raghu et al. 2020), always with them. Deviations: the last layer starts each episode at
    zero (Kao et al. 2022), so that any number of classes is possible; it takes features minus their mean over the
    support; a pretrained network with fixed BatchNorm statistics; one episode per step, a batch sampled with
    replacement, so that with few images one may be support and query at once. The shipped network is adapted to the
    training images of all classes.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="maml",
        branch="few_shot",
        title="MAML",
        paper="Finn et al. 2017, Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks, ICML",
        requires=("label",),
        answers=("what",),
        summary="Learns initial weights from which a few gradient steps on a few images suffice; ANIL, first-order.",
        smoke={**SMOKE, "steps": 4, "final_images": 6, "final_steps": 10},
        never_advised="mostly below the frozen backbone that it starts from, and its bundle takes no further classes",
    )
    Options: ClassVar[type[FewShotOptions]] = MamlOptions
    options: MamlOptions

    def __init__(self, options: MamlOptions, classes: tuple[str, ...], channels: int = 3) -> None:
        super().__init__(options, classes, channels)
        self.embedding = Embedding(options, channels)  # the trained initial parameters
        self.adapted = copy.deepcopy(self.embedding).requires_grad_(False)  # to the training images
        self.register_buffer("weight", torch.zeros(len(classes), self.embedding.size))
        self.register_buffer("bias", torch.zeros(len(classes)))
        self.register_buffer("centre", torch.zeros(self.embedding.size))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        embedding = self.adapted(images)
        logits = F.linear(embedding - self.centre, self.weight, self.bias)
        return {"class_scores": logits.softmax(dim=1), "embedding": embedding}

    def embed(self, fast: StateDict, images: Tensor) -> Tensor:
        body = {name: value for name, value in fast.items() if name not in HEAD}
        return functional_call(self.embedding, body, (images,)) if body else self.embedding(images)

    def adapt(self, images: Tensor, labels: Tensor, ways: int, steps: int) -> tuple[StateDict, Tensor]:
        """The parameters after some steps on the support, and the mean of its features, which the head subtracts.

        Classes have equal weight. With ANIL only the head's parameters are returned.
        """
        anil = self.options.anil
        share = 1 / labels.bincount(minlength=ways).clamp(min=1).to(images)[labels]
        share = share / share.sum()
        features = self.embedding(images)
        centre = (share[:, None] * features).sum(dim=0)
        exact = torch.is_grad_enabled() and (anil or not self.options.first_order)
        fast: StateDict = {
            "weight": images.new_zeros(ways, self.embedding.size),
            "bias": images.new_zeros(ways),
        }
        if not anil:
            fast |= dict(self.embedding.named_parameters())
        for step in range(steps):
            # While the head is zero the gradient of the network is zero.
            if anil or step == 0:
                gradients = head_gradients(fast, features - centre, labels, share)
            else:
                gradients = self.gradients(fast, images, centre, labels, share, exact)
            for name, gradient in gradients.items():
                rate = self.options.head_rate if name in HEAD else self.options.inner_rate
                fast[name] = fast[name] - rate * (gradient if exact else gradient.detach())
        return fast, centre

    def gradients(
        self, fast: StateDict, images: Tensor, centre: Tensor, labels: Tensor, share: Tensor, exact: bool
    ) -> StateDict:
        """Gradients of the loss; unless `exact`, without a graph back to the initial parameters."""
        if exact:  # with respect to the current parameters, not to those they were computed from
            fast = {name: value.view_as(value) for name, value in fast.items()}
        else:
            fast, centre = {name: value.detach().requires_grad_() for name, value in fast.items()}, centre.detach()
        with torch.enable_grad():
            logits = self.head_logits(fast, images, centre)
            loss = (share * F.cross_entropy(logits, labels, reduction="none")).sum()
            gradients = torch.autograd.grad(loss, list(fast.values()), create_graph=exact, materialize_grads=True)
        return dict(zip(fast, gradients, strict=True))

    def episode_log_probabilities(self, images: Tensor, episode: BatchEpisode) -> Tensor:
        fast, centre = self.adapt(
            images[episode.support], episode.support_labels, episode.ways, self.options.inner_steps
        )
        return self.head_logits(fast, images[episode.query], centre).log_softmax(dim=1)

    def head_logits(self, fast: StateDict, images: Tensor, centre: Tensor) -> Tensor:
        """Logits of images by adapted parameters; `centre` is the mean of the support's features."""
        return F.linear(self.embed(fast, images) - centre, fast["weight"], fast["bias"])

    def finish_training(self, batches: Iterable[Batch], count: int) -> None:
        """Adapt to the training images of all classes."""
        self.eval()
        counts = [0] * len(self.classes)
        images, labels = [], []
        for batch in self.labelled_batches(batches):
            for image, label in zip(batch["image"], batch["label"].tolist(), strict=True):
                counts[label] += 1
                if counts[label] <= self.options.final_images:
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

        Starts at the trained initial parameters, not at the shipped ones, which are adapted to the training classes.
        """
        self.eval()
        known = torch.from_numpy(labels).to(self.device)
        with torch.no_grad():
            fast, centre = self.adapt(
                torch.from_numpy(support).to(self.device), known, int(labels.max()) + 1, self.options.inner_steps
            )
            logits = self.head_logits(fast, torch.from_numpy(query).to(self.device), centre)
            return logits.argmax(dim=1).cpu().numpy()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.embedding.parameters(), lr=self.options.learning_rate)
        return cosine_decay(optimizer, self.options.steps)


def head_gradients(fast: StateDict, centred: Tensor, labels: Tensor, share: Tensor) -> StateDict:
    """Gradients of the last layer for the weighted cross-entropy of centred features."""
    logits = F.linear(centred, fast["weight"], fast["bias"])
    error = share[:, None] * (logits.softmax(dim=1) - F.one_hot(labels, logits.shape[1]))
    return {"weight": error.T @ centred, "bias": error.sum(dim=0)}
