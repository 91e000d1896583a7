"""Inspect any number of images on a Ray cluster; a rerun inspects only what is missing."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import blemish
from blemish.errors import DataError, OptionError
from blemish.files import file_sha256
from blemish.imaging.read import read_image
from blemish.inspection.convert import SCHEMA_VERSION
from blemish.inspection.distributed.actor import SHARD, ActorSettings, ShardInspector
from blemish.inspection.distributed.connect import LOCAL, connected, count_places, own_error
from blemish.inspection.distributed.listing import list_sources
from blemish.inspection.distributed.shards import (
    BUNDLE_FILE,
    ShardCounts,
    ShardPlan,
    check_run,
    finished_shards,
    plan_shards,
    read_counts,
)
from blemish.inspection.distributed.storage import Storage
from blemish.inspection.inspector import Inspector

log = logging.getLogger(__name__)
MAX_WAITING = 2  # shards that an actor is given at a time: the one that it inspects, and the next
MAX_BLOCKS = 10_000  # in which Ray Data hands out the shards
MAX_LOSSES = 5  # of actors, one after another, without a shard finished in between


@dataclass(frozen=True, slots=True)
class Workforce:
    """How many actors inspect, with which share of a machine each."""

    actors: int | None = None  # None: as many as the cluster holds
    cores: int = 1
    gpus: float = 0.0
    readers: int = 1  # threads of an actor that read images


@dataclass(frozen=True, slots=True)
class DistributedResult:
    """Where the results are, and the counts of all images in them, `new` of them from this run."""

    folder: str
    counts: ShardCounts
    new: int


def inspect_distributed(
    bundle: str,
    sources: Iterable[str],
    out: str,
    *,
    address: str = LOCAL,
    workforce: Workforce | None = None,
    shard_size: int = 1000,
    template: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    **inspector: Any,
) -> DistributedResult:
    """Inspect the images of `sources` (see `listing`) and write results below the folder or URL `out` (see `shards`).

    `inspector` are arguments of `Inspector.open`. All machines must see `out` and the images. `on_progress` is called
    with the number of finished images and of all. Raises DataError where there is no image, OptionError, BundleError
    or MissingExtraError.
    """
    workforce = workforce or Workforce()
    if shard_size < 1:
        raise OptionError(f"a shard holds at least 1 image, not {shard_size}")
    # The device need not be one of this machine.
    opened = Inspector.open(bundle, **{**inspector, "engine": "onnxruntime", "device": "cpu", "threads": 1})
    if opened.manifest.template and template is None:
        raise OptionError("this bundle compares each image with a reference image; name it with --template FILE")
    if template is not None and not opened.manifest.template:
        raise OptionError(f"this bundle of {opened.manifest.provenance.method} compares with no reference image")
    if inspector.get("decision") is not None:  # a file of this machine
        inspector = {**inspector, "decision": opened.manifest.decision}
    sha256 = file_sha256(opened.bundle.path)
    with connected(address, workforce.cores * workforce.actors if workforce.actors else None) as ray:
        places = count_places(ray, workforce.cores, workforce.gpus)
        if not places:
            own = f"{workforce.cores} cores" + (f" and {workforce.gpus:g} GPUs" if workforce.gpus else "")
            raise OptionError(f"no machine of the cluster has {own} for an actor; ask for less with --cores and --gpus")
        storage = Storage(f"{out.rstrip('/')}/{sha256[:16]}")
        check_run(storage, _run_settings(sha256, opened, inspector, template))
        if not storage.exists(BUNDLE_FILE):
            storage.put(opened.bundle.path, BUNDLE_FILE)
        plan = plan_shards(storage, list_sources(sources), shard_size)
        if not plan.shards:
            raise DataError("the sources name no image")
        settings = ActorSettings(
            root=storage.root,
            bundle_sha256=sha256,
            version=blemish.__version__,
            inspector={"threads": workforce.cores, **inspector},
            workers=workforce.readers,
            template=None if template is None else read_image(template),
        )
        return _inspect_missing(ray, storage, plan, settings, workforce, places, on_progress)


def _run_settings(sha256: str, opened: Inspector, inspector: dict[str, Any], template: str | None) -> dict[str, Any]:
    """All that the results depend on besides the images."""
    manifest = opened.manifest
    return {
        "bundle": sha256,
        "blemish": blemish.__version__,
        "schema_version": SCHEMA_VERSION,
        "engine": inspector.get("engine", "onnxruntime"),
        "device": inspector.get("device") or "",
        "decision": manifest.decision.model_dump(mode="json"),
        "tiling": None if manifest.tiling is None else manifest.tiling.model_dump(mode="json"),
        "scale": None if manifest.scale is None else manifest.scale.model_dump(mode="json"),
        "template": None if template is None else hashlib.sha256(read_image(template).tobytes()).hexdigest(),
    }


def _inspect_missing(
    ray: Any,
    storage: Storage,
    plan: ShardPlan,
    settings: ActorSettings,
    workforce: Workforce,
    places: int,
    on_progress: Callable[[int, int], None] | None,
) -> DistributedResult:
    finished = finished_shards(storage).intersection(plan.shards)
    counts = read_counts(storage, finished)
    before, losses = counts.images, 0
    while missing := [number for number in plan.shards if number not in finished]:
        if on_progress is not None:
            on_progress(counts.images, plan.images)
        try:
            for row in _run_pipeline(ray, missing, settings, workforce, places):
                finished.add(int(row.pop(SHARD)))
                counts += ShardCounts(**{name: int(value) for name, value in row.items()})
                losses = 0
                if on_progress is not None:
                    on_progress(counts.images, plan.images)
        except ray.exceptions.RayError as error:
            if (own := own_error(error)) is not None:
                raise own from error
            losses += 1
            if losses == MAX_LOSSES:
                raise
            log.warning(f"the cluster lost an actor ({' '.join(str(error).split())[:200]}); starting again")
    return DistributedResult(storage.root, counts, counts.images - before - plan.kept)


def _run_pipeline(
    ray: Any, missing: list[int], settings: ActorSettings, workforce: Workforce, places: int
) -> Iterator[dict[str, Any]]:
    """Counts of each shard as it is finished."""
    actors = min(workforce.actors or places, len(missing))
    ray.data.DataContext.get_current().enable_progress_bars = False
    numbers = ray.data.from_items(
        [{SHARD: number} for number in missing], override_num_blocks=min(len(missing), MAX_BLOCKS)
    )
    counts = numbers.map_batches(
        ShardInspector,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            min_size=1,  # so that one that has nothing to do makes room for the actor of a machine that is gone
            initial_size=min(actors, places),
            max_size=actors,
            max_tasks_in_flight_per_actor=MAX_WAITING,
        ),
        num_cpus=workforce.cores,
        num_gpus=workforce.gpus or None,
        fn_constructor_args=(settings,),
    )
    yield from counts.iter_rows()
