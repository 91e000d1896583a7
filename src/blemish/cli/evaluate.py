"""`blemish evaluate`: how good a bundle is, on images with ground truth."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from blemish.cli.console import check_data_outputs, console, progress_bar, show_table, warn, write_json
from blemish.cli.options import (
    BundleArgument,
    DataArgument,
    EngineDeviceOption,
    EngineOption,
    FormatOption,
    GoodOption,
    JsonOption,
    RootOption,
    SpeedOption,
    SplitOption,
    ThreadsOption,
    UnlabelledName,
    UnlabelledOption,
)
from blemish.errors import DataError, OptionError
from blemish.files import file_sha256

log = logging.getLogger(__name__)
_TRAINED = ("train", "tuning", "val")  # splits that a training sees

if TYPE_CHECKING:
    from blemish.dataset.sample import Dataset, Sample
    from blemish.evaluation.evaluation import Evaluation
    from blemish.evaluation.speed import Speed
    from blemish.inspection.result import Inspection


def evaluate(
    bundle: BundleArgument,
    data: DataArgument,
    split: SplitOption = None,
    root: RootOption = None,
    format_: FormatOption = "auto",
    good: GoodOption = None,
    unlabelled: UnlabelledOption = "unknown",
    json: JsonOption = None,
    engine: EngineOption = "onnxruntime",
    device: EngineDeviceOption = None,
    threads: ThreadsOption = None,
    speed: SpeedOption = True,
) -> None:
    """Evaluate BUNDLE on DATA: ranking, escapes and overkill with intervals, pixels, classes, speed."""
    from blemish.evaluation.evaluate import evaluate as run
    from blemish.inspection.inspector import Inspector

    dataset = read_subset(data, split, root, format_, bundle, good or (), unlabelled, outputs=[json])
    inspector = Inspector.open(bundle, engine=engine, threads=threads, device=device)
    with progress_bar() as progress:
        task = progress.add_task("measuring speed" if speed else "inspecting", total=len(dataset))

        def advance(sample: "Sample", inspection: "Inspection") -> None:
            progress.update(task, description="inspecting", advance=1)

        evaluation = run(inspector, dataset, speed=speed, on_inspection=advance)
    result = evaluation.to_dict()
    show_unreadable(result)
    if json is not None:
        write_json(result, json)
    if json is None or str(json) != "-":
        show(evaluation)


def read_subset(
    data: str,
    split: str | None,
    root: Path | None,
    format: str,
    bundle: Path | Mapping[str, Path],
    good: Iterable[str] = (),
    unlabelled: UnlabelledName = "unknown",
    outputs: Iterable[Path | None] = (),
) -> "Dataset":
    """The images of a split, by default the test images; OptionError for an output that is the bundle, or of the data.

    Data without splits get those of the run that the bundle came from, by path, or else by content from the bundle's
    own list, so that no training image is evaluated; images that neither knows are test images. Synthetic images are
    left out. With a bundle for each view, all images of a part are in the split of any that its bundle knows.
    """
    from blemish.dataset.read import read_dataset
    from blemish.dataset.synthetic_samples import real_images
    from blemish.inspection.bundle import find_bundle

    bundles = _by_view(bundle)
    dataset = read_dataset(data, format, root, good, unlabelled)
    check_data_outputs(outputs, data, dataset, map(find_bundle, bundles.values()))
    dataset = real_images(dataset)
    seen = {view: _seen_by(own) for view, own in bundles.items()}
    if all(sample.split is None for sample in dataset.samples):
        parts = [_split_as_in_run(_of_view(dataset, view), own, seen[view]) for view, own in bundles.items()]
        dataset = parts[0] if None in bundles else _split_by_part(dataset, parts)
    undivided = split is None and all(sample.split is None for sample in dataset.samples)
    subset = dataset if undivided else dataset.split(split or "test")
    if not len(subset):
        names = sorted({sample.split for sample in dataset.samples if sample.split}) or ["none"]
        raise DataError(f"{data} has no images in the split '{split or 'test'}'; it has {', '.join(names)}")
    doubts = [*dataset.doubts]
    if split in (None, "test"):
        for view, own in bundles.items():
            doubts += _find_trained(_of_view(subset, view), _of_view(dataset, view), own, seen[view] or {})
    for line in dict.fromkeys(doubts):
        log.warning(line)
    return replace(subset, doubts=tuple(dict.fromkeys(doubts)))


def _of_view(dataset: "Dataset", view: str | None) -> "Dataset":
    return dataset if view is None else dataset.where(lambda sample: sample.view == view)


def _split_by_part(dataset: "Dataset", parts: "Sequence[Dataset]") -> "Dataset":
    """The splits of the images of each view; an image that was not held out takes all of its part with it."""
    dataset = replace(dataset, doubts=tuple(line for own in parts for line in own.doubts))
    splits = {sample.image: sample.split for own in parts for sample in own.samples}
    if not any(splits.values()):
        return dataset
    used = {s.group: splits[s.image] for s in dataset.samples if splits.get(s.image) not in (None, "test")}
    return dataset.with_samples(
        replace(s, split=splits.get(s.image) or "test" if s.group is None else used.get(s.group, "test"))
        for s in dataset.samples
    )


def _seen_by(bundle: Path) -> dict[str, str] | None:
    """Split by hash of the images that the bundle says it has seen; None where it does not say."""
    from blemish.inspection.bundle import open_bundle
    from blemish.inspection.seen_images import unpack_seen

    return unpack_seen(open_bundle(bundle))


def _by_view(bundle: Path | Mapping[str, Path]) -> dict[str | None, Path]:
    return {None: bundle} if isinstance(bundle, Path) else {view: own for view, own in bundle.items()}


def _find_trained(subset: "Dataset", dataset: "Dataset", bundle: Path, seen: dict[str, str]) -> list[str]:
    """A line where test images, or others of their parts, were seen in training by the data, run or bundle.

    Images that are alike are those of a training: see `shared_units`.
    """
    from blemish.dataset.duplicates import describe_unsearched
    from blemish.dataset.split import describe_shared, shared_units
    from blemish.inspection.seen_images import find_seen

    known = {s.image.resolve(): s for s in (*dataset.samples, *_run_samples(bundle)) if s.split in _TRAINED}
    trained = list(known.values())
    # A synthetic training image shows the part that it was made of.
    samples = [*(replace(s, split="test") for s in subset.samples), *(replace(s, sources=None) for s in trained)]
    count = len(subset)
    units = shared_units(samples) if trained else []
    shared = [unit for unit in units if min(unit.members) < count <= max(unit.members)]
    same = {
        samples[i].image: f" and {samples[unit.members[-1]].image}"
        for unit in shared
        if unit.kind == "identical"
        for i in unit.members
        if i < count
    }
    same |= {image: "" for image in find_seen(seen, (s.image for s in subset.samples)) if image not in same}
    lines = []
    if same:
        image, other = next(iter(same.items()))
        lines.append(
            f"{len(same)} of {count} test images are the same image as a training or validation image, such as "
            f"{image}{other}: the metrics are too good"
        )
    lines += describe_shared(samples, shared, ("near", "defects"))
    lines += describe_unsearched(samples) if trained else []
    parts = {sample.group for sample in trained} - {None}
    of_parts = [s for s in subset.samples if s.group in parts and s.image not in same]
    if of_parts:
        lines.append(
            f"{len(of_parts)} of {count} test images are of parts (groups) of which others were trained or "
            f"calibrated on, such as {of_parts[0].image} of {of_parts[0].group}: the metrics are too good"
        )
    return lines


def _run_samples(bundle: Path) -> "Sequence[Sample]":
    """The images of the run that the bundle came from, with their splits; none where they are not known."""
    from blemish.dataset.read import read_present

    return read_present((bundle if bundle.is_dir() else bundle.parent) / "split.csv").samples


def _check_whole(listed: Path) -> None:
    """OptionError where a run's list of images is not the one whose hash its settings end with."""
    settings = listed.with_name("run.yaml")
    text = settings.read_text(encoding="utf-8", errors="replace") if settings.is_file() else ""
    stated = re.search(r"^split_sha256: ([0-9a-f]{64})$", text, re.MULTILINE)
    if stated and stated[1] != file_sha256(listed):
        raise OptionError(
            f"'{listed}' is cut off, or was changed since the run began, so that it is not known which images it was "
            "trained on; give a data set with splits of its own"
        )


def _split_as_in_run(dataset: "Dataset", bundle: Path, seen: dict[str, str] | None) -> "Dataset":
    """The splits that the run made of these images; images that it did not have are test images."""
    from blemish.dataset.read import read_dataset
    from blemish.inspection.seen_images import find_seen

    listed = (bundle if bundle.is_dir() else bundle.parent) / "split.csv"
    known: dict[Path, str | None] = {}
    if listed.is_file():
        _check_whole(listed)
        known = {sample.image.resolve(): sample.split for sample in read_dataset(listed, "csv").samples}
    splits = [known.get(sample.image.resolve()) for sample in dataset.samples]
    if any(splits):
        log.info(f"the data has no splits; those of {listed} are used")
    elif seen is None:
        line = (
            "neither the data nor the bundle say which images were trained on: they may be among those evaluated, and "
            "the metrics too good"
        )
        return replace(dataset, doubts=(line,))
    own = find_seen(seen or {}, (s.image for s, split in zip(dataset.samples, splits, strict=True) if split is None))
    splits = [split or own.get(s.image) for s, split in zip(dataset.samples, splits, strict=True)]
    if own:
        log.info(
            f"{len(own)} images are ones that the bundle was trained, tuned or calibrated on: they are no test images"
        )
    if not any(splits):
        return dataset
    return dataset.with_samples(
        replace(sample, split=split or "test") for sample, split in zip(dataset.samples, splits, strict=True)
    )


def unknown_class(name: str, images: int) -> str:
    return f"class '{name}' ({images} image{'' if images == 1 else 's'}) is unknown to the bundle; all are missed"


def show_unreadable(result: dict[str, Any]) -> None:
    """Images and masks that could not be read, and classes unknown to the bundle, on stderr."""
    for name, images in result["data"].get("unknown_classes", {}).items():
        warn(unknown_class(name, images))
    for line in result["data"].get("unreadable", []):
        warn(line)


def show(evaluation: "Evaluation") -> None:
    """The metrics as a table, with one more column for each product, and the speed."""
    header, *rows = evaluation.table()
    show_table(tuple(map(escape, header)), rows)
    if evaluation.speed is not None:
        console.print(_speed_line(evaluation.speed))


def _speed_line(speed: "Speed") -> str:
    memory = f" · peak memory {speed.peak_memory_mb:.0f} MB" if speed.peak_memory_mb is not None else ""
    return (
        f"{speed.images_per_second:.1f} images/s · latency {speed.latency_ms['median']:.1f} ms median, "
        f"{speed.latency_ms['p95']:.1f} ms p95 · network {speed.network_ms:.1f} ms{memory}"
    )
