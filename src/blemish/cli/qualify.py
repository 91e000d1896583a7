"""`blemish qualify`: whether a gauge, a bundle and a running station are fit for their task."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from blemish.cli.console import check_outputs, console, messages, progress_bar, show_table, warn, write_json
from blemish.cli.evaluate import read_subset
from blemish.cli.options import (
    BundleArgument,
    DataArgument,
    FileSeedOption,
    FormatOption,
    GoodOption,
    JsonOption,
    LanguageOption,
    RootOption,
    SplitOption,
    ThreadsOption,
    UnlabelledOption,
    choice_option,
    split_names,
)
from blemish.errors import OptionError

if TYPE_CHECKING:
    from blemish.evaluation.intervals import RateEstimate
    from blemish.qualify.attribute import AttributeAgreement
    from blemish.qualify.bias import LinearityStudy, TypeOneStudy
    from blemish.qualify.drift import ChartResult
    from blemish.qualify.kappa import Kappa
    from blemish.qualify.robustness import Robustness
    from blemish.qualify.variable import GaugeRR

qualify = typer.Typer(help="Gauge studies, robustness, drift, and the dossier of a bundle.", no_args_is_help=True)
MeasuredQuantity = Literal["length", "mean_width", "max_width", "area"]
StudyKind = Literal["auto", "attribute", "variable", "type-1", "linearity"]


@qualify.command()
def gauge(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="CSV file of the study", show_default=False)],
    kind: Annotated[StudyKind, choice_option(StudyKind, "kind of study; auto: all that the columns allow")] = "auto",
    tolerance: Annotated[
        float | None, typer.Option(help="width of the tolerance, in the unit of the values: P/T, Cg and Cgk need it")
    ] = None,
    good: Annotated[
        str, typer.Option(metavar="NAMES", help="verdicts that pass a part, separated by commas")
    ] = "good,pass,ok",
    alpha: Annotated[
        float, typer.Option(min=0, max=1, help="p from which on the interaction is pooled with repeatability")
    ] = 0.05,
    json: JsonOption = None,
) -> None:
    """Analyse a gauge study: do verdicts agree, or is a measurement repeatable and right?

    STUDY has the columns part, and verdict or value; then appraiser, repeat and reference, where there are any.
    Verdicts give an attribute agreement analysis. Values give gauge R&R; where references are known, the linearity, and
    for a single part a type-1 study.
    """
    from blemish.qualify.analysis import analyse_study
    from blemish.qualify.study import read_study

    if tolerance is not None and not 0 < tolerance < float("inf"):
        raise OptionError(f"--tolerance {tolerance:g}: give the positive width of the tolerance")
    check_outputs([json], [study])
    found = read_study(study)
    results = analyse_study(found, kind, tolerance, split_names(good), alpha)
    data = {name: asdict(result) for name, result in results.items()}
    if json is not None:
        write_json({"study": str(study), **data}, json)
    if str(json) == "-":
        return
    for result in results.values():
        _SHOW[type(result).__name__](result)
        for line in result.warnings:
            warn(line)


def _show_attribute(found: "AttributeAgreement") -> None:
    columns = ("", "value", "95 % interval", "n")
    rows = []
    for one in found.appraisers:
        for name, own in (
            ("within", one.within),
            ("within, kappa", one.within_kappa),
            ("effectiveness", one.effectiveness),
            ("reference, kappa", one.reference_kappa),
            ("miss rate", one.miss_rate),
            ("false-alarm rate", one.false_alarm_rate),
        ):
            rows += [_estimate_row(f"{one.name}: {name}", own)] if own is not None else []
        if one.grade is not None:
            rows.append((f"{one.name}: by AIAG's guide values", one.grade, "", ""))
    rows += [_estimate_row(f"{pair.first} and {pair.second}: kappa", pair.kappa) for pair in found.pairs]
    for name, total in (
        ("all appraisers", found.between),
        ("all appraisers, kappa", found.between_kappa),
        ("all with the reference", found.system),
    ):
        rows += [_estimate_row(name, total)] if total is not None else []
    show_table(columns, rows, title=f"Attribute agreement: {found.parts} parts, {found.repeats} repeats", right=("n",))


def _estimate_row(name: str, found: "RateEstimate | Kappa") -> tuple[str, str, str, str]:
    interval = "" if found.low is None or found.high is None else f"{found.low:.3f} – {found.high:.3f}"
    return name, "undefined" if found.value is None else f"{found.value:.3f}", interval, str(found.n)


def _show_variation(found: "GaugeRR") -> None:
    rows = []
    for row in found.anova:
        f, p, mean = (None if x is None else f"{x:.4g}" for x in (row.f, row.p, row.mean_square))
        rows.append((row.source, str(row.degrees), f"{row.squares:.6g}", mean or "", f or "", p or ""))
    title = f"Gauge R&R: {found.parts} parts, {found.appraisers} appraisers, {found.repeats} repeats"
    show_table(("source", "df", "sum of squares", "mean square", "F", "p"), rows, title=title)
    console.print("interaction pooled with repeatability" if found.pooled else "interaction kept")
    components = [
        (
            one.name,
            f"{one.sigma:.6g}",
            f"{100 * one.of_total:.1f}",
            f"{100 * one.low:.1f} – {100 * one.high:.1f}",
            "" if one.of_tolerance is None else f"{100 * one.of_tolerance:.1f}",
        )
        for one in found.components
    ]
    show_table(("", "sigma", "% of total", "95 % interval", "% of tolerance"), components)
    console.print(f"ndc {found.ndc} · GRR {found.grade} by AIAG's guide values")


def _show_type_one(found: "TypeOneStudy") -> None:
    rows = [
        ("mean", f"{found.mean:.6g}", ""),
        ("sigma", f"{found.sigma:.6g}", f"{found.sigma_low:.4g} – {found.sigma_high:.4g}"),
        ("bias", f"{found.bias:.4g}", f"{found.bias_low:.4g} – {found.bias_high:.4g}"),
        ("p of no bias", f"{found.p:.4g}", f"t = {found.t:.4g}"),
    ]
    if found.cg is not None:
        rows.append(("Cg", f"{found.cg:.3f}", f"at least {found.cg_low:.3f}"))
        rows.append(("Cgk", f"{found.cgk:.3f}", "capable" if found.capable else "not capable"))
    show_table(("", "value", "95 % interval"), rows, title=f"Type-1 study: {found.readings} readings")


def _show_linearity(found: "LinearityStudy") -> None:
    rows = [
        (name, f"{one.value:.5g}", f"{one.low:.4g} – {one.high:.4g}", f"{one.t:.4g}", f"{one.p:.4g}")
        for name, one in (("slope of the bias", found.slope), ("intercept", found.intercept))
    ]
    show_table(("", "value", "95 % interval", "t", "p"), rows, title=f"Linearity: {found.readings} readings")
    console.print(f"R² {found.r_squared:.4f} · {'linear' if found.linear else 'the bias is not 0 over the range'}")


_SHOW: dict[str, Any] = {
    "AttributeAgreement": _show_attribute,
    "GaugeRR": _show_variation,
    "TypeOneStudy": _show_type_one,
    "LinearityStudy": _show_linearity,
}


@qualify.command()
def drift(
    inspections: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="inspections: a .csv, .jsonl, .json or .parquet file", show_default=False),
    ],
    baseline: Annotated[int, typer.Option(min=20, help="number of first parts that mean and limits come from")] = 100,
    arl: Annotated[float, typer.Option(help="average number of parts between two false alarms")] = 500.0,
    weight: Annotated[float, typer.Option(min=0.01, max=1, help="of the newest part in the EWMA")] = 0.1,
    slack: Annotated[float, typer.Option(min=0, max=3, help="of the CUSUM (k), in standard deviations")] = 0.5,
    verdicts: Annotated[
        str, typer.Option("--verdicts", metavar="NAMES", help="verdicts of the parts that are charted")
    ] = "pass",
    json: JsonOption = None,
) -> None:
    """Find a slow change in the scores of good parts: EWMA and CUSUM charts with their average run lengths.

    FILE is what `blemish inspect --csv` or `--json` writes, in the order of production.
    """
    from blemish.qualify.drift import analyse_drift, read_scores

    check_outputs([json], [inspections])
    found = analyse_drift(read_scores(inspections, tuple(split_names(verdicts))), baseline, arl, weight, slack)
    if json is not None:
        write_json({"inspections": str(inspections), **asdict(found)}, json)
    if str(json) == "-":
        return
    rows = [_chart_row(name, chart) for name, chart in (("EWMA", found.ewma), ("CUSUM", found.cusum))]
    columns = ("", "limit", "ARL", *(f"after {shift} σ" for shift in found.ewma.arl_shifted), "ARL here", "first alarm")
    show_table(columns, rows, title=f"Drift: {found.parts} parts, baseline {found.baseline}")
    console.print(f"baseline: mean {found.mean:.6g}, σ {found.sigma:.4g}, skewness {found.skewness:.2f}, "
                  f"autocorrelation {found.autocorrelation:.2f}")  # fmt: skip
    console.print("the scores have drifted" if found.drifted else "no drift found")
    for line in found.warnings:
        warn(line)


def _chart_row(name: str, chart: "ChartResult") -> tuple[str, ...]:
    alarm = "none" if chart.first_alarm is None else f"part {chart.first_alarm}, since about {chart.began}"
    shifted = (f"{value:.1f}" for value in chart.arl_shifted.values())
    return name, f"{chart.limit:.3f}", f"{chart.arl:.0f}", *shifted, f"{chart.arl_resampled:.0f}", alarm


@qualify.command()
def robustness(
    bundle: BundleArgument,
    data: DataArgument,
    split: SplitOption = None,
    root: RootOption = None,
    format_: FormatOption = "auto",
    good: GoodOption = None,
    unlabelled: UnlabelledOption = "unknown",
    images: Annotated[int, typer.Option(min=10, help="number of images: half good, half defective, at random")] = 60,
    allowed: Annotated[
        float, typer.Option(min=0, max=1, help="share of good parts that may be stopped within a limit")
    ] = 0.0,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="plot to write: PNG, SVG or PDF")] = None,
    write: Annotated[
        bool, typer.Option("--write", help="limits written into BUNDLE; the station's picture alarms watch them")
    ] = False,
    seed: FileSeedOption = 0,
    threads: ThreadsOption = None,
    json: JsonOption = None,
) -> None:
    """Find how far light, focus, noise, position, compression and dust may change before verdicts do.

    Only images whose verdict is right undisturbed are used. A limit is the strongest level up to which no defective
    part passes, and no more good parts are stopped than allowed.
    """
    from blemish.inspection.bundle import describe_bundle, replace_manifest
    from blemish.inspection.inspector import Inspector
    from blemish.qualify.disturbances import DISTURBANCES
    from blemish.qualify.robustness import measure_robustness, plot_robustness
    from blemish.translation import ENGLISH, translator

    dataset = read_subset(data, split, root, format_, bundle, good or (), unlabelled, outputs=[plot, json])
    samples = _choose_samples(dataset.samples, images, seed)
    inspector = Inspector.open(bundle, threads=threads)
    with progress_bar() as progress:
        total = len(samples) + sum(len(own.levels) for own in DISTURBANCES)
        task = progress.add_task("disturbing", total=total)
        found = measure_robustness(
            inspector, samples, allowed, DISTURBANCES, seed=seed, on_image=lambda: progress.advance(task)
        )
    screen = messages if str(json) == "-" else console
    if plot is not None:
        try:
            plot_robustness(found, translator(ENGLISH)).savefig(plot, dpi=150)
        except ValueError as error:  # of an unknown suffix
            raise OptionError(f"--plot {plot}: {str(error).splitlines()[0]}") from error
    limits = found.limits.model_dump(exclude_none=True)
    if json is not None:
        plain = {**asdict(found), "limits": limits, "warnings": [*dataset.doubts, *found.warnings]}
        own = describe_bundle(inspector.bundle.path, inspector.manifest)
        write_json({"bundle": own, "data": data, **plain}, json)
    if str(json) != "-":
        _show_robustness(found)
    if write:
        changed = inspector.bundle.manifest.model_copy(update={"picture_limits": found.limits})
        replace_manifest(inspector.bundle.path, changed)
        screen.print(f"{inspector.bundle.path} now carries these limits", markup=False, soft_wrap=True)
    for line in found.warnings:
        warn(line)


def _choose_samples(samples: Any, number: int, seed: int) -> list[Any]:
    """Half good and half defective samples at random, in their order; more of one kind where the other is short."""
    import numpy as np

    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    kinds = [[i for i, s in enumerate(samples) if s.defective is flag] for flag in (False, True)]
    for own, other in (kinds, kinds[::-1]):
        count = min(len(own), max(number - number // 2, number - len(other)))
        chosen += rng.choice(own, count, replace=False).tolist() if own else []
    return [samples[i] for i in sorted(chosen)]


def _show_robustness(found: "Robustness") -> None:
    rows = []
    for sweep in found.sweeps:
        levels = (sweep.limit, sweep.first_stopped, sweep.first_missed)
        rows.append((sweep.name, *("none" if level is None else f"{level:g}" for level in levels), sweep.unit))
    columns = ("disturbance", "limit", "first good part stopped", "first defective part missed", "unit")
    show_table(columns, rows, title=f"Robustness: {found.good} good and {found.defective} defective parts")
    limits = found.limits.model_dump(exclude_none=True)
    named = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in limits.items())
    console.print(f"limits for picture alarms: {named or 'none is needed'}")


@qualify.command()
def report(
    bundle: BundleArgument,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="file to write: .html or .pdf", show_default="NAME-dossier.html at BUNDLE"),
    ] = None,
    audit: Annotated[Path | None, typer.Option(metavar="FILE", help="of `blemish data audit --json`")] = None,
    evaluation: Annotated[Path | None, typer.Option(metavar="FILE", help="of `blemish evaluate --json`")] = None,
    pod: Annotated[Path | None, typer.Option(metavar="FILE", help="of `blemish pod --json`")] = None,
    gauge: Annotated[Path | None, typer.Option(metavar="FILE", help="of `blemish qualify gauge --json`")] = None,
    robustness: Annotated[
        Path | None, typer.Option(metavar="FILE", help="of `blemish qualify robustness --json`")
    ] = None,
    drift: Annotated[Path | None, typer.Option(metavar="FILE", help="of `blemish qualify drift --json`")] = None,
    golden: Annotated[
        Path | None, typer.Option(metavar="FILE", help="of `blemish evaluate --json`, on the golden set")
    ] = None,
    scale: Annotated[Path | None, typer.Option(metavar="FILE", help="of `blemish scale --json`")] = None,
    measured: Annotated[
        MeasuredQuantity, choice_option(MeasuredQuantity, "what the gauge study measured, for the uncertainty budget")
    ] = "length",
    language: LanguageOption = "en",
) -> None:
    """Write the dossier of BUNDLE for an auditor: all evidence on one page, what is missing, and clauses it speaks to.

    Everything that the bundle carries is in it: provenance, certificate, thresholds and their proof. The rest comes
    from files that other commands write with --json. A .pdf needs the extra `pdf`.
    """
    from blemish.files import write_atomic
    from blemish.inspection.bundle import open_bundle
    from blemish.qualify.dossier import render_dossier
    from blemish.report.pdf import html_to_pdf

    opened = open_bundle(bundle)
    given = {
        "audit": audit, "evaluation": evaluation, "pod": pod, "gauge": gauge, "robustness": robustness, "drift": drift,
        "golden": golden, "scale": scale,
    }  # fmt: skip
    target = out or opened.path.with_name(f"{opened.path.stem}-dossier.html")
    if target.suffix.lower() not in (".html", ".pdf"):
        raise OptionError(f"--out {target}: name a file .html or .pdf")
    check_outputs([target], [opened.path, *given.values()])
    page = render_dossier(opened, {name: path for name, path in given.items() if path is not None}, language, measured)
    write_atomic(target, html_to_pdf(page) if target.suffix.lower() == ".pdf" else page)
    console.print(f"[bold]{target}[/bold]", soft_wrap=True)
