"""`blemish compress`: a smaller and faster bundle, where it loses next to nothing."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from blemish.cli.console import check_data_outputs, check_outputs, console, write_json
from blemish.cli.options import BundleArgument, EngineName, FormatOption, JsonOption, ThreadsOption, choice_option
from blemish.errors import OptionError

Precision = Literal["int8"]


def compress(
    bundle: BundleArgument,
    to: Annotated[Precision, choice_option(Precision, "what the convolutions are computed in", "--to")] = "int8",
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="images that the bundle was not trained on, good ones at least: for thresholds and comparison",
            show_default="validation images of the run that the bundle lies in",
        ),
    ] = None,
    format: FormatOption = "auto",
    engine: Annotated[EngineName, choice_option(EngineName, "engine that the thresholds are for")] = "openvino",
    threads: ThreadsOption = None,
    max_loss: Annotated[float, typer.Option(min=0, max=1, help="AUROC that it may lose")] = 0.005,
    max_changes: Annotated[float, typer.Option(min=0, max=1, help="share of verdicts that may change")] = 0.005,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="new bundle", show_default="NAME-int8.blemish next to the run")
    ] = None,
    json: JsonOption = None,
) -> None:
    """Quantise the convolutions of BUNDLE to 8 bits, calibrate its thresholds anew, and compare it with BUNDLE.

    Distances, probabilities and the last layers stay in float32. The new bundle holds the comparison, and runs on the
    engine that it was made for only. Where compressing does not pay, that is said.

    Exit code: 0 written; 2 it would lose more than allowed, and nothing is written.
    """
    from blemish.dataset.read import read_dataset
    from blemish.inspection.bundle import SUFFIX, find_bundle
    from blemish.training.ship import compress as compressing

    source = find_bundle(bundle)
    in_run = (source.parent / "run.yaml").is_file()  # a folder with two bundles is ambiguous
    default = (source.parent.parent if in_run else source.parent) / f"{source.stem}-{to}{SUFFIX}"
    target = default if out is None else out
    if target.resolve() == source.resolve():
        raise OptionError("--out is the bundle itself; name another file")
    dataset = None
    check_outputs([target, json], [source])
    if data is not None:
        dataset = read_dataset(data, format)
        check_data_outputs([target, json], data, dataset)
    made = compressing.compress(
        source,
        target,
        data=dataset,
        engine=engine,
        threads=threads,
        max_auroc_loss=max_loss,
        max_verdict_changes=max_changes,
    )
    if json is not None:
        write_json(made.model_dump(mode="json"), json)
        return
    for line in compressing.describe(made):
        console.print(line, soft_wrap=True)
    console.print(str(target), soft_wrap=True)
