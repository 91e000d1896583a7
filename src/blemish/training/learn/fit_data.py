"""The images of a fit: which ones a method trains, validates and is finished on, as loaders of batches."""

from dataclasses import dataclass

from torch.utils.data import DataLoader

from blemish.dataset.ground_truth import has_mask
from blemish.dataset.sample import Dataset
from blemish.inspection.manifest import InputSpec
from blemish.methods.base import Item, Method, OnePassMethod
from blemish.training.learn.data import ImageItems, View, loader
from blemish.training.learn.run import RunConfig
from blemish.training.learn.supervision import (
    good_or_referenced,
    has_annotation,
    learns_classes,
    learns_from_good_only,
)
from blemish.training.learn.synthetic import make_synthesis, needs_part_mask, with_synthetic_labels
from blemish.training.learn.targets import has_unknown_class
from blemish.training.learn.windows import label_tiles, learns_from_windows, make_windows, subsample_good


@dataclass(frozen=True)
class FitData:
    training: DataLoader[Item]
    validation: DataLoader[Item] | None  # the images for tuning
    cached: int  # bytes that prepared images take
    good: DataLoader[Item]  # good images for `Method.after_training`


@dataclass(frozen=True)
class Subset:
    """Samples, and the tile of each that is an item; without `tiles`, all of them are."""

    dataset: Dataset
    tiles: tuple[int, ...] | None = None


def make_view(config: RunConfig) -> View:
    side = config.options["image_size"]
    spec = InputSpec(channels=config.channels, height=side, width=side, fit=config.fit, pixels=config.pixels)
    return View(spec, config.roi, config.tiling)


def training_subset(dataset: Dataset, method: Method) -> Dataset:
    """The training images with the annotations that the method requires; only good ones where it needs no other."""
    training = dataset.split("train")
    if learns_from_good_only(type(method)):
        return good_or_referenced(training, type(method))
    required = [kind for kind in method.info.requires if kind != "good"]
    return training.where(lambda s: all(has_annotation(s, kind, method.multi_label) for kind in required))


def describe_unknown_classes(method: Method, dataset: Dataset, tiled: bool) -> str | None:
    """A line on training images with defects whose class is not known; None where there is none, or it is not asked."""
    windows = learns_from_windows(type(method), tiled)
    located = windows or bool({"mask", "boxes"} & {*method.info.requires, *method.info.optional})
    if not learns_classes(type(method)) or not located:
        return None
    training = dataset.split("train") if windows else training_subset(dataset, method)
    unknown = [s.image for s in training.samples if has_unknown_class(s, method.classes)]
    if not unknown:
        return None
    return (
        f"{len(unknown)} of {len(training)} training images show defects whose class no annotation says, such as "
        f"{unknown[0]}: these are learnt neither as a class nor as good surface; give masks with a value for each "
        "class, or outlines or boxes with class names"
    )


def prepare_fit_data(method: Method, dataset: Dataset, config: RunConfig) -> FitData:
    """Select the images, label windows, add synthetic defects and let the method count classes (`before_training`)."""
    view, batch = make_view(config), method.options.batch_size  # type: ignore[attr-defined]
    annotations = {*method.info.requires, *method.info.optional}
    training, validation = _select(method, dataset, view, config)

    def items(subset: Subset) -> ImageItems:
        return ImageItems(
            subset.dataset,
            view,
            method.classes,
            annotations=annotations,
            tiles=subset.tiles,
            learns_classes=learns_classes(type(method)),
        )

    def ordered_loader(subset: Subset, cache_bytes: int = 0) -> DataLoader[Item]:
        own = items(subset)
        own.cache_within(cache_bytes)
        return loader(own, batch, shuffle=False, workers=config.workers, seed=config.seed)

    counted = training.dataset
    if config.synthetic is not None and not {"mask", "boxes"} & set(method.info.requires):
        counted = with_synthetic_labels(config.synthetic, counted)
    method.before_training(counted)
    training_items = items(training)
    training_items.transform, training_items.with_part = (
        method.train_transform(),
        needs_part_mask(config.synthetic, view),
    )
    if config.synthetic is not None:
        # Windows have no masks to cut defects out, so these come from the whole images.
        source = training.dataset if training.tiles is None else dataset.split("train")
        training_items.transform = make_synthesis(
            config.synthetic, source, view, method.classes, training_items.transform
        )
    cached = 0
    if not isinstance(method, OnePassMethod):  # which uses each image once
        cached = training_items.cache_within(config.cache_mb * 2**20)
        training_items.numbered = True
    return FitData(
        training=loader(
            training_items,
            batch,
            shuffle=not isinstance(method, OnePassMethod),
            workers=config.workers,
            seed=config.seed,
            weights=sampling_weights(method, training, view, real=len(counted) == len(training.dataset)),
        ),
        validation=ordered_loader(validation, config.cache_mb * 2**20 - cached) if len(validation.dataset) else None,
        cached=cached,
        good=ordered_loader(_good_images(method, dataset) or training),
    )


def _good_images(method: Method, dataset: Dataset) -> Subset | None:
    """The good images for `Method.after_training`; None: the training images."""
    splits = ("tuning", "train") if isinstance(method, OnePassMethod) else ("tuning",)
    found = dataset.where(lambda s: s.split in splits and s.defective is False)
    return Subset(found) if len(found) else None


def _select(method: Method, dataset: Dataset, view: View, config: RunConfig) -> tuple[Subset, Subset]:
    """Images to train and to tune on, or their windows for a classifier of tiles."""
    held = dataset.split("tuning")
    if not learns_from_windows(type(method), view.tiling is not None):
        return Subset(training_subset(dataset, method)), Subset(held)
    rule = config.windows
    windows = subsample_good(make_windows(dataset.split("train"), view, rule), rule, config.seed)
    held_windows = make_windows(held, view, rule, need_defects=False)
    return Subset(windows.dataset, windows.tiles), Subset(held_windows.dataset, held_windows.tiles)


def sampling_weights(method: Method, training: Subset, view: View, real: bool = True) -> list[float] | None:
    """The weights of the items: of images, windows or, where images are tiled for other methods, of all their tiles.

    The method is told of them where all items are `real`: with synthetic defects, shares of classes are not the data's.
    """
    items = training.dataset
    weights = method.sampling_weights(items)
    if weights is None:
        return None
    known = [True] * len(items)
    if view.tiling is not None and training.tiles is None:
        masked = {s.image for s in items.samples if has_mask(s)}
        items = label_tiles(items, view)
        weights = method.sampling_weights(items)
        known = [s.image in masked for s in items.samples]  # masks alone say what a tile shows
    if real and weights is not None:
        labelled = [(s, weight) for s, weight, own in zip(items.samples, weights, known, strict=True) if own]
        method.before_sampling(items.with_samples(s for s, _ in labelled), [weight for _, weight in labelled])
    return weights
