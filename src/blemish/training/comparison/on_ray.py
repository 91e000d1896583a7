"""Trainings as tasks on a Ray cluster: a task that ends with its machine is begun again and resumes its run."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blemish.errors import BlemishError, OptionError
from blemish.inspection.distributed.connect import connected, count_places, own_error
from blemish.training.comparison.runs import train_or_resume

log = logging.getLogger(__name__)
MAX_RETRIES = 3  # of a training whose process was lost


@dataclass(frozen=True)
class RayTasks:
    """Where trainings run as tasks, and how many cores and GPUs each of them takes."""

    address: str
    cores: int = 1
    gpus: float = 0.0


@dataclass(frozen=True)
class RayTraining:
    """Arguments of `train_or_resume`; all machines must see the paths, which are absolute."""

    method: str
    listed: Path
    run: Path
    options: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)


def train_on_ray(jobs: Sequence[RayTraining], tasks: RayTasks) -> dict[Path, BlemishError]:
    """Train all jobs, as many at a time as the cluster holds; the errors of those that could not be trained, by run.

    Raises OptionError where no machine has the cores and GPUs of a task, MissingExtraError without Ray.
    """
    errors: dict[Path, BlemishError] = {}
    with connected(tasks.address) as ray:
        if not count_places(ray, tasks.cores, tasks.gpus):
            raise OptionError(
                f"no machine of the cluster has {tasks.cores} cores and {tasks.gpus:g} GPUs for a training; ask for "
                "less with --cores and --gpus"
            )
        remote = ray.remote(num_cpus=tasks.cores, num_gpus=tasks.gpus, max_retries=MAX_RETRIES)(_train)
        waiting = {remote.options(name=f"train {job.method}").remote(job, tasks.cores): job for job in jobs}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            job = waiting.pop(done)
            try:
                ray.get(done)
            except ray.exceptions.RayError as error:
                own = own_error(error)
                if own is None:
                    raise
                errors[job.run] = own
            else:
                log.info(f"{job.method}: trained, {len(waiting)} trainings left")
    return errors


def _train(job: RayTraining, cores: int) -> None:
    import torch

    torch.set_num_threads(cores)
    train_or_resume(job.listed, job.run, job.method, job.options, False, **job.settings)
