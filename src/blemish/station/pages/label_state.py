"""What the parts of the labelling page share: the project, who labels, and whose labels are shown."""

import base64
from collections import Counter
from dataclasses import dataclass

from blemish.dataset.labels import LabelEvidence
from blemish.dataset.sample import GOOD, Sample
from blemish.station.labelling.journal import ImageLabel
from blemish.station.labelling.project import LabelProject

# Whose images are shown, beside those of each kind of evidence.
STATES = {
    "": "all images",
    "unlabelled": "without a label",
    "not mine": "not labelled by me",
    "people": "labelled by people",
    "disputed": "two people differ",
}


@dataclass
class LabellingState:
    project: LabelProject
    person: str
    independent: bool = False  # labels of others are not shown

    def sample(self, image: str) -> Sample:
        """An image with the latest label, or with the person's own."""
        return self.project.sample(image, self.person if self.independent else None)

    def given(self, image: str) -> ImageLabel | None:
        """What was said of an image last; by the person alone, where labels of others are not shown."""
        journal = self.project.journal
        return journal.of_image(image).get(self.person) if self.independent else journal.latest(image)

    def select(self, state: str, label: str, split: str) -> list[str]:
        """The images in a state (or with that evidence), of a class and of a split, each "" for all."""
        return [image for image in self.project.samples if self._matches(image, state, label, split)]

    def _matches(self, image: str, state: str, label: str, split: str) -> bool:
        sample = self.sample(image)
        names = sample.labels or (sample.label,)
        return (
            (not label or label in names) and (not split or (sample.split or "") == split) and self._is_in(image, state)
        )

    def _is_in(self, image: str, state: str) -> bool:
        project = self.project
        if state == "unlabelled":
            return self.sample(image).defective is None
        if state == "not mine":
            return self.person not in project.journal.of_image(image)
        if state == "people":
            return project.journal.latest(image) is not None
        if state == "disputed":
            return not self.independent and project.disputed(image)
        return not state or (self.sample(image).evidence or LabelEvidence.NONE) == state

    def count_evidence(self) -> dict[str, int]:
        counts = Counter(str(self.sample(image).evidence or LabelEvidence.NONE) for image in self.project.samples)
        return dict(sorted(counts.items()))

    def count_classes(self) -> dict[str, int]:
        """Images by class, good ones first; an image of several classes counts for each."""
        counts: Counter[str] = Counter()
        for image in self.project.samples:
            sample = self.sample(image)
            counts.update(sample.labels or ([sample.label] if sample.label else []))
        return {name: counts[name] for name in sorted(counts, key=lambda name: (name != GOOD, name))}


def png_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()
