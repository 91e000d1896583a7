"""The qualification dossier of a bundle: one page of all evidence, what is missing, and the clauses it answers."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from blemish.errors import DataError
from blemish.files import file_sha256
from blemish.inspection.bundle import Bundle, describe_bundle
from blemish.inspection.manifest import Manifest, SizeClassError
from blemish.qualify.evidence_plots import pod_plots, robustness_plots
from blemish.qualify.evidence_tables import (
    DossierTable,
    audit_tables,
    drift_tables,
    evaluation_tables,
    gauge_tables,
    interval_text,
    pod_tables,
    robustness_tables,
    scale_tables,
)
from blemish.qualify.uncertainty_budget import COVERAGE, SOURCES, UncertaintyBudget, make_budgets
from blemish.report.formatting import number, percent, plain
from blemish.report.html import render_template
from blemish.translation import ENGLISH, Translate, translator

# Evidence that comes from files: its name, the command that writes it, and a key that tells such a file.
EVIDENCE = {
    "audit": ("blemish data audit --json", "duplicates_across_splits"),
    "evaluation": ("blemish evaluate --json", "bundle"),
    "pod": ("blemish pod --json", "curves"),
    "gauge": ("blemish qualify gauge --json", "study"),
    "robustness": ("blemish qualify robustness --json", "sweeps"),
    "drift": ("blemish qualify drift --json", "ewma"),
    "golden": ("blemish evaluate --json", "image"),
    "scale": ("blemish scale --json", "residual_px"),
}
OF_BUNDLE = ("evaluation", "pod", "robustness", "golden")  # what is measured with the bundle
PLOTS = {"pod": pod_plots, "robustness": robustness_plots}


@dataclass(frozen=True)
class DossierSection:
    """A section without tables is evidence that was not provided."""

    key: str
    title: str
    tables: list[DossierTable]
    warnings: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    plots: list[str] = field(default_factory=list)  # pieces of HTML
    answers: bool = True  # whether what it shows answers a clause


@dataclass(frozen=True)
class Clause:
    """A requirement, and the sections (keys) all of which answer it."""

    name: str
    subject: str
    keys: tuple[str, ...]


def read_evidence(name: str, path: Path) -> dict[str, Any]:
    """The JSON file of one kind of evidence; DataError where it is not what its command writes."""
    command, key = EVIDENCE[name]
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}") from error
    if not isinstance(data, dict) or key not in data:
        raise DataError(f"{path} is not what `{command}` writes: it has no '{key}'")
    return data


def check_bundle(path: Path, data: dict[str, Any], manifest: Manifest) -> bool:
    """Whether evidence of a bundle says that it is of this graph; DataError where it is of another, or of other
    thresholds or rules."""
    own, bundle = data.get("bundle"), describe_bundle(path, manifest)
    stated = own if isinstance(own, dict) else {}  # an older robustness states a path
    graph = stated.get("graph_sha256")
    if graph is not None and graph != bundle["graph_sha256"]:
        raise DataError(f"{path} is of another bundle ({stated.get('path')}); make it again with this one")
    if any(key in stated and stated[key] != bundle[key] for key in ("decision", "products")):
        raise DataError(f"{path} was made with other thresholds or rules than the bundle has now; make it again")
    return graph is not None


def render_dossier(bundle: Bundle, files: dict[str, Path], language: str = ENGLISH, measured: str = "length") -> str:
    """The page for a bundle and the files of evidence by their names in EVIDENCE; the gauge study `measured` lengths.

    Raises DataError for a file of another kind, bundle or decision, MissingExtraError without Jinja2, and OptionError
    for an unknown language.
    """
    t = translator(language)
    evidence = {name: read_evidence(name, path) for name, path in files.items()}
    try:
        sections = _sections(bundle, evidence, files, measured, t)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"a file of evidence is of another version of blemish: {error!r}; write it again") from error
    places = {own.key: (k, own.title) for k, own in enumerate(sections, 1) if own.tables and own.answers}
    clauses = []
    for clause in list_clauses(t):
        found = [{"number": places[key][0], "title": places[key][1]} for key in clause.keys if key in places]
        complete = len(found) == len(clause.keys)
        clauses.append({"name": clause.name, "subject": clause.subject, "places": found if complete else []})
    return render_template(
        "dossier.html",
        language,
        title=bundle.manifest.name,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=version("blemish"),
        sections=sections,
        missing=[own.title for own in sections if not own.tables],
        clauses=clauses,
        roles=[t("made by"), t("checked by (quality)"), t("released by (production)")],
    )


def list_clauses(t: Translate) -> list[Clause]:
    """Requirements that the evidence speaks to. Topics of VDA 5 have no numbers here, as these differ by edition."""
    return [
        Clause("IATF 16949:2016, 7.1.5.1.1", t("statistical study of each measurement system"), ("gauge",)),
        Clause("ISO 9001:2015, 7.1.5.2", t("traceability of measurements"), ("scale",)),
        Clause("IATF 16949:2016, 8.5.6.1", t("control of changes: version and verification"), ("bundle", "golden")),
        Clause("IATF 16949:2016, 8.6.6", t("acceptance criteria"), ("thresholds",)),
        Clause(
            "IATF 16949:2016, 10.2.4", t("error-proofing tested with failures and challenge parts"), ("golden", "pod")
        ),
        Clause("VDA 5", t("agreement of verdicts, or repeatability and reproducibility"), ("gauge",)),
        Clause("VDA 5", t("measurement uncertainty"), ("uncertainty",)),
        Clause("VDA 5", t("influences of the environment"), ("robustness",)),
        Clause("VDA 5", t("ongoing check of stability"), ("drift",)),
    ]


def _sections(
    bundle: Bundle, evidence: dict[str, dict[str, Any]], files: dict[str, Path], measured: str, t: Translate
) -> list[DossierSection]:
    manifest = bundle.manifest
    made: Sequence[tuple[str, str, Callable[[dict[str, Any], Translate], tuple[list[DossierTable], list[str]]]]] = (
        ("audit", t("Audit of the data"), audit_tables),
        ("evaluation", t("Evaluation on test images"), evaluation_tables),
        ("pod", t("Probability of detection"), pod_tables),
        ("gauge", t("Gauge study"), gauge_tables),
        ("robustness", t("Robustness"), robustness_tables),
        ("golden", t("Golden set"), evaluation_tables),
        ("drift", t("Drift of scores"), drift_tables),
        ("scale", t("Scale"), scale_tables),
    )
    sections = [
        DossierSection("bundle", t("Bundle"), [_bundle(bundle, t)]),
        DossierSection("certificate", t("Certificate"), _certificate(manifest, t)),
        DossierSection("thresholds", t("Thresholds and their proof"), *_thresholds(manifest, t)),
    ]
    for name, title, build in made:
        tables, warnings = build(evidence[name], t) if name in evidence else ([], [])
        if name in OF_BUNDLE and name in evidence and not check_bundle(files[name], evidence[name], manifest):
            warnings = [t("An older version made this file, which does not say of which bundle it is."), *warnings]
        plots = PLOTS[name](evidence[name], t) if name in evidence and name in PLOTS else []
        sections.append(DossierSection(name, title, tables, warnings, plots=plots))
    sections.append(_uncertainty(manifest, evidence, measured, t))
    titles = {name: title for name, title, _ in made}
    hashes = [(titles[name], path.name, file_sha256(path)) for name, path in files.items()]
    table = DossierTable(hashes, (t("evidence"), t("file"), "SHA-256"))
    sections.append(DossierSection("hashes", t("Files of evidence"), [table] if hashes else []))
    return sections


def _bundle(bundle: Bundle, t: Translate) -> DossierTable:
    manifest, own = bundle.manifest, bundle.manifest.provenance
    data = own.data
    rows = [
        (t("method"), f"{own.method} ({own.paper})"),
        (t("made"), own.created),
        (t("file"), bundle.path.name),
        ("SHA-256", file_sha256(bundle.path)),
        (t("SHA-256 of the configuration"), own.config_sha256),
        (t("classes"), plain(manifest.classes)),
        (t("options"), plain(own.options)),
        (t("seed"), str(own.seed)),
        (t("training data"), plain(data)),
        (t("versions"), plain({"blemish": own.blemish, **own.versions})),
    ]
    return DossierTable(rows)


def _certificate(manifest: Manifest, t: Translate) -> list[DossierTable]:
    own = manifest.certificate
    if own is None:
        return []
    rows = [
        (t("images compared"), str(own.images)),
        (t("tolerance"), f"{own.tolerance:g}"),
        (t("largest difference of scores"), f"{own.score_difference:.2e}"),
        (t("largest difference of maps"), f"{own.map_difference:.2e}"),
        (t("same verdict"), percent(own.verdict_agreement)),
        (t("versions"), plain(own.versions)),
    ]
    return [DossierTable(rows)]


def _thresholds(manifest: Manifest, t: Translate) -> tuple[list[DossierTable], list[str]]:
    decision = manifest.decision.model_dump(exclude_defaults=True)
    calibration = manifest.calibration
    if not decision:
        return [], []
    tables = [DossierTable([(name, plain(value)) for name, value in decision.items()], caption=t("decision"))]
    if calibration is None:
        return tables, [t("the thresholds were not calibrated: no error rate is proven for them")]
    rows = [
        (t("target"), t.line(calibration.target)),
        (t("images"), f"{calibration.source}: {calibration.good_images} + {calibration.defect_images}"),
    ]
    if calibration.good_parts is not None:
        rows.append((t("parts"), f"{calibration.good_parts} + {calibration.defect_parts}"))
    false_alarm, escape = t("false-alarm rate on these images"), t("escape rate on these images")
    for name, rate in ((false_alarm, calibration.false_alarm), (escape, calibration.escape)):
        if rate is not None:
            rows.append((name, interval_text(*rate)))
    return [*tables, DossierTable(rows, caption=t("calibration"))], [t.line(text) for text in calibration.warnings]


def _uncertainty(
    manifest: Manifest, evidence: dict[str, dict[str, Any]], measured: str, t: Translate
) -> DossierSection:
    budgets = make_budgets(manifest, evidence.get("gauge", {}), measured)
    hints, warnings = [], []
    if budgets:
        hints = [
            t(
                "Standard uncertainties as shares of the measured value, combined in quadrature as in JCGM 100 (GUM); "
                "U is {k} times the result, about 95 %.",
                k=f"{COVERAGE:g}",
            ),
            t("Scale and border: 90 % lie within a known range, divided by 1.645. Bias: divided by the root of 3."),
            t("Border errors come from {count} defects of known size ({source}).",
              count=max(one.defects for one in _border_errors(manifest)), source=t(_border_source(manifest))),
        ]  # fmt: skip
    for budget in budgets:
        if budget.missing:
            names = t(", ").join(t(name) for name in budget.missing)
            warnings.append(t("{quantity}: without {names}, of which nothing is known",
                              quantity=t(budget.quantity.replace("_", " ")), names=names))  # fmt: skip
    if not budgets:
        components = _known_components(manifest, evidence.get("gauge", {}), t)
        warnings = [t("The errors of borders are not known, so nothing is combined.")] * bool(components.rows)
        tables = [components] * bool(components.rows)
        return DossierSection("uncertainty", t("Measurement uncertainty"), tables, warnings, answers=False)
    tables = [_budget_table(budget, t) for budget in budgets]
    return DossierSection("uncertainty", t("Measurement uncertainty"), tables, warnings, hints)


def _known_components(manifest: Manifest, gauge: dict[str, Any], t: Translate) -> DossierTable:
    """What is known of a bundle without errors of borders, each in its own unit."""
    rows = []
    if manifest.scale is not None and manifest.scale.uncertainty:
        rows.append((t("Scale"), f"± {percent(manifest.scale.uncertainty)}", t("of the bundle, 90 % lie within")))
    if "variable" in gauge:
        sigma = {one["name"]: one["sigma"] for one in gauge["variable"]["components"]}
        rows.append((t("repeatability"), f"σ {number(sigma['EV'])}", t("gauge study, in its unit")))
        rows.append((t("reproducibility"), f"σ {number(sigma['AV'])}", t("gauge study, in its unit")))
    if "type_1" in gauge:
        rows.append((t("bias"), number(gauge["type_1"]["bias"]), t("type-1 study")))
    return DossierTable(rows, (t("component"), t("value"), t("known from")))


def _border_errors(manifest: Manifest) -> list[SizeClassError]:
    known = manifest.measurement_uncertainty
    return [] if known is None else [one for errors in known.errors.values() for one in errors]


def _border_source(manifest: Manifest) -> str:
    return "" if manifest.measurement_uncertainty is None else manifest.measurement_uncertainty.source


def _budget_table(budget: UncertaintyBudget, t: Translate) -> DossierTable:
    used = [name for name in SOURCES if name in budget.lines[0].components]
    header = [f"{t('size')}, {budget.unit}", *(t(name) for name in used), t("combined"), f"U (k = {COVERAGE:g})"]
    header += [t("2 U of the tolerance")] if budget.tolerance is not None else []
    rows = []
    for line in budget.lines:
        row = [f"{number(line.low)} – {number(line.high)}", *(percent(line.components[name]) for name in used)]
        row += [percent(line.combined), f"± {percent(line.expanded)}"]
        share = budget.of_tolerance(line)
        rows.append((*row, *([] if share is None else [percent(share)])))
    return DossierTable(rows, tuple(header), t(budget.quantity.replace("_", " ")))
