"""`blemish inspect --ray`: the images of a large set on a Ray cluster, or on all cores of this machine."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from blemish.cli.console import console, needs_extra, progress_bar, warn
from blemish.errors import OptionError

if TYPE_CHECKING:
    from blemish.inspection.distributed.run import DistributedResult


def inspect_on_ray(
    bundle: Path,
    sources: Iterable[str],
    out: str | None,
    *,
    address: str,
    unusable: dict[str, bool],
    workforce: dict[str, Any],
    shard_size: int,
    template: Path | None,
    inspector: dict[str, Any],
) -> None:
    """Inspect `sources` and report; `unusable` are options that this way of inspecting has not, and whether they were
    given. Ends with the exit code of `blemish inspect`."""
    for option, given in unusable.items():
        if given:
            raise OptionError(f"{option} does not go with --ray, whose results are files of shards in --out")
    if out is None:
        raise OptionError("--ray needs --out DIR, a folder or URL that all machines see")
    with needs_extra("ray"):
        from blemish.inspection.distributed.run import Workforce, inspect_distributed

    from blemish.inspection.bundle import open_bundle
    from blemish.inspection.inspector import change_manifest

    changes = {name: inspector[name] for name in ("decision", "tile", "overlap", "px_per_mm", "product")}
    for note in change_manifest(open_bundle(bundle).manifest, **changes)[1]:
        warn(note)
    lines = (line.rstrip("\r\n") for line in sys.stdin)
    with progress_bar() as progress:
        task = progress.add_task("inspecting", total=None)
        result = inspect_distributed(
            str(bundle),
            (name for source in sources for name in (lines if source == "-" else [source]) if name.strip()),
            out,
            address=address,
            workforce=Workforce(**workforce),
            shard_size=shard_size,
            template=None if template is None else str(template),
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
            **inspector,
        )
    _show(result)
    counts = result.counts
    raise typer.Exit(2 if counts.failed else 1 if counts.reject else 3 if counts.review else 0)


def _show(result: "DistributedResult") -> None:
    counts = result.counts
    if counts.failed:
        warn(f"{counts.failed} images could not be inspected; their rows have a reason of the kind 'failed'", "red")
    console.print(
        f"[bold]{counts.images} images[/bold]: [green]{counts.passed} pass[/green], [yellow]{counts.review} review"
        f"[/yellow], [red]{counts.reject} reject[/red], {counts.failed} failed; {result.new} inspected by this run"
    )
    console.print(f"{result.folder}/results holds them as Parquet and JSON lines", soft_wrap=True)
