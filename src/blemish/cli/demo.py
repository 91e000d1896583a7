"""`blemish demo`: the whole way from images to a report, by the commands that a user would type."""

import shutil
import time
from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import console, needs_extra
from blemish.errors import OptionError

MARK = ".blemish-demo"  # only a folder that contains it is ever replaced


def demo(
    data: Annotated[str, typer.Option(help="dataset: synthetic, elpv (real solar cells), or your own")] = "synthetic",
    out: Annotated[Path, typer.Option(help="folder for all results; an older demo in it is replaced")] = Path("demo"),
    quick: Annotated[bool, typer.Option("--quick", help="smaller synthetic dataset, regions not refined")] = False,
) -> None:
    """Make a data set, train on its good images, evaluate the result, inspect images and write the report."""
    with needs_extra("train"):
        import lightning  # noqa: F401
    from blemish.report.html import check_installed

    check_installed()
    start = time.perf_counter()
    _clear(out)
    run = out / "run"
    source = str(out / "data") if data == "synthetic" else data
    scale: list[str] = []
    if data == "synthetic":
        _command("synth", source, *(["--train", "30", "--good", "8", "--defects", "3"] if quick else []))
        scale = ["--px-per-mm", "10", "--scale-uncertainty", "0"]  # they are drawn
    refine = ["--refine", "off"] if quick else []
    _command("train", source, "--method", "patchcore", "--out", str(run), *scale, *refine)
    _command("evaluate", str(run), source, "--json", str(out / "metrics.json"))
    images = _defective_images(source)
    _command(
        "inspect", str(run), *images, "--out", str(out / "inspected"), "--overlay", "--csv", str(out / "regions.csv")
    )
    _command("report", str(run), source, "--out", str(out / "report.html"))
    console.print(
        f"\n[bold]Done in {time.perf_counter() - start:.0f} s.[/bold] Open [bold]{out / 'report.html'}[/bold]; "
        f"marked images are in {out / 'inspected'}, measurements in {out / 'regions.csv'}, "
        f"the bundle that ships is {run / 'run.blemish'}"
    )


def _command(*arguments: str) -> None:
    """Show a command and run it; errors are exceptions, verdicts exit codes, which do not matter here."""
    from blemish.cli import build_app

    shown = [*arguments[:8], "…"] if len(arguments) > 12 else arguments
    console.print(f"\n[bold cyan]$ blemish {' '.join(shown)}[/bold cyan]", soft_wrap=True)
    build_app()(list(arguments), standalone_mode=False)


def _clear(out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        if not (out / MARK).exists():
            raise OptionError(f"'{out}' is not empty and no older demo; choose another folder with --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()


def _defective_images(source: str, limit: int = 8) -> list[str]:
    """Paths of some defective test images, of every class in turn, and of a good one."""
    from blemish.dataset.read import read_dataset

    dataset = read_dataset(source)
    pool = dataset.split("test").samples or dataset.samples
    by_class = [[s for s in pool if s.label == name] for name in dataset.defect_classes]
    in_turn = [samples[i] for i in range(limit) for samples in by_class if i < len(samples)]
    good = [s for s in pool if s.defective is False][:1]
    return [str(s.image) for s in [*in_turn[: limit - 1], *good]]
