"""The jobs of a benchmark as tasks on a Ray cluster; a task that ends with its machine is begun again and resumes."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from blemish.errors import OptionError
from blemish.inspection.distributed.connect import connected, count_places, own_error
from blemish.training.benchmark.benchmark import Execute, Outcome, run_or_say
from blemish.training.benchmark.job import BenchmarkJob
from blemish.training.benchmark.rows import BenchmarkRow
from blemish.training.comparison.on_ray import MAX_RETRIES, RayTasks

log = logging.getLogger(__name__)


def run_on_ray(tasks: RayTasks) -> Execute:
    """Runs jobs on the cluster, as many at a time as it holds; all machines must see the folders, by the same paths.

    The result raises OptionError where no machine has the cores and GPUs of a task, MissingExtraError without Ray.
    """

    def execute(jobs: Iterable[BenchmarkJob]) -> Iterator[Outcome]:
        with connected(tasks.address) as ray:
            places = count_places(ray, tasks.cores, tasks.gpus)
            if not places:
                raise OptionError(
                    f"no machine of the cluster has {tasks.cores} cores and {tasks.gpus:g} GPUs for a training; ask "
                    "for less with --cores and --gpus"
                )
            remote = ray.remote(num_cpus=tasks.cores, num_gpus=tasks.gpus, max_retries=MAX_RETRIES)(_run)
            running: dict[Any, BenchmarkJob] = {}
            coming = iter(jobs)
            while True:
                while len(running) < places and (job := next(coming, None)) is not None:
                    log.info(f"{job.set}: {job.name}")
                    running[remote.options(name=job.name).remote(job, tasks.cores)] = job
                if not running:
                    return
                (done,), _ = ray.wait(list(running), num_returns=1)
                job = running.pop(done)
                try:
                    yield job, ray.get(done)
                except ray.exceptions.RayError as error:
                    own = own_error(error)
                    if own is None:
                        raise
                    yield job, str(own)

    return execute


def _run(job: BenchmarkJob, cores: int) -> list[BenchmarkRow] | str:
    import torch

    torch.set_num_threads(cores)
    return run_or_say(job)
