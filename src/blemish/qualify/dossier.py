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
from blemish.inspection.bundle import Bundle
from blemish.inspection.manifest import Manifest
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


@dataclass(frozen=True)
class DossierTable:
    rows: Sequence[tuple[str, ...]]
    header: tuple[str, ...] = ()
    caption: str = ""


@dataclass(frozen=True)
class DossierSection:
    """A section without tables is evidence that was not provided."""

    key: str
    title: str
    tables: list[DossierTable]
    warnings: list[str] = field(default_factory=list)
    hint: str = ""


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


def render_dossier(bundle: Bundle, files: dict[str, Path], language: str = ENGLISH) -> str:
    """The page for a bundle and the files of evidence by their names in EVIDENCE.

    Raises DataError for a file of another kind, MissingExtraError without Jinja2, OptionError for an unknown language.
    """
    t = translator(language)
    evidence = {name: read_evidence(name, path) for name, path in files.items()}
    try:
        sections = _sections(bundle, evidence, files, t)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"a file of evidence is of another version of blemish: {error!r}; write it again") from error
    places = {own.key: (k, own.title) for k, own in enumerate(sections, 1) if own.tables}
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
    bundle: Bundle, evidence: dict[str, dict[str, Any]], files: dict[str, Path], t: Translate
) -> list[DossierSection]:
    manifest = bundle.manifest
    made: Sequence[tuple[str, str, Callable[[dict[str, Any], Translate], tuple[list[DossierTable], list[str]]]]] = (
        ("audit", t("Audit of the data"), _audit),
        ("evaluation", t("Evaluation on test images"), _evaluation),
        ("pod", t("Probability of detection"), _pod),
        ("gauge", t("Gauge study"), _gauge),
        ("robustness", t("Robustness"), _robustness),
        ("golden", t("Golden set"), _evaluation),
        ("drift", t("Drift of scores"), _drift),
        ("scale", t("Scale"), _scale),
    )
    sections = [
        DossierSection("bundle", t("Bundle"), [_bundle(bundle, t)]),
        DossierSection("certificate", t("Certificate"), _certificate(manifest, t)),
        DossierSection("thresholds", t("Thresholds and their proof"), *_thresholds(manifest, t)),
    ]
    for name, title, build in made:
        tables, warnings = build(evidence[name], t) if name in evidence else ([], [])
        sections.append(DossierSection(name, title, tables, warnings))
    sections.append(DossierSection("uncertainty", t("Measurement uncertainty"), _uncertainty(manifest, evidence, t)))
    hashes = [(name, str(path.name), file_sha256(path)) for name, path in files.items()]
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
        (t("target"), calibration.target),
        (t("images"), f"{calibration.source}: {calibration.good_images} + {calibration.defect_images}"),
    ]
    for name, rate in ((t("false-alarm rate"), calibration.false_alarm), (t("escape rate"), calibration.escape)):
        if rate is not None:
            rows.append((name, _interval(*rate)))
    return [*tables, DossierTable(rows, caption=t("calibration"))], [t(text) for text in calibration.warnings]


def _audit(data: dict[str, Any], t: Translate) -> tuple[list[DossierTable], list[str]]:
    serious = t("yes") if data["serious"] else t("no")
    rows = [(t("images"), str(data["images"])), (t("serious findings"), serious)]
    rows += [(name, str(len(own))) for name, own in data.items() if isinstance(own, list | dict) and own]
    return [DossierTable(rows)], [t("the audit has serious findings")] if data["serious"] else []


def _evaluation(data: dict[str, Any], t: Translate) -> tuple[list[DossierTable], list[str]]:
    image, about = data.get("image", {}), data["data"]
    rows = [(t("images"), plain({name: about[name] for name in ("good", "defective", "unknown")}))]
    rows.append((t("SHA-256 of the data"), str(about.get("sha256", ""))))
    for key, name in (("escape_rate", t("escape rate")), ("overkill_rate", t("overkill rate")), ("auroc", "AUROC")):
        if key in image:
            rows.append((name, _rate(image[key])))
    if "proof" in image:
        proof = image["proof"]
        text = t("at most {rate}, with {confidence} confidence", rate=percent(proof["proven"]),
                 confidence=percent(proof["confidence"]))  # fmt: skip
        rows.append((t("proven escape rate"), text))
    return [DossierTable(rows)], [str(line) for line in about.get("unreadable", [])]


def _pod(data: dict[str, Any], t: Translate) -> tuple[list[DossierTable], list[str]]:
    def size(curve: dict[str, Any], name: str) -> str:
        value = curve.get(f"{name}_mm", curve[name])
        return "–" if value is None else f"{number(value)} {'mm' if f'{name}_mm' in curve else 'px'}"

    rows = [
        (str(own["kind"]), f"{own['strength']:g}", f"{own['hits']}/{own['trials']}",
         *(size(own, name) for name in ("a50", "a90", "a90_95")))
        for own in data["curves"]
    ]  # fmt: skip
    header = (t("defect"), t("contrast"), t("detected"), "a50", "a90", "a90/95")
    return [DossierTable(rows, header)], [str(line) for line in data.get("warnings", [])]


def _gauge(data: dict[str, Any], t: Translate) -> tuple[list[DossierTable], list[str]]:
    tables, warnings = [], []
    if attribute := data.get("attribute"):
        rates = ("within", "effectiveness", "reference_kappa", "miss_rate", "false_alarm_rate")
        rows = []
        for own in attribute["appraisers"]:
            cells = ("–" if own[name] is None else _rate(own[name], name.endswith("kappa")) for name in rates)
            rows.append((own["name"], *cells, "–" if own["grade"] is None else t(own["grade"])))
        kinds = (t("within"), t("effectiveness"), t("kappa"), t("miss rate"), t("false-alarm rate"))
        caption = t("{parts} parts, {repeats} repeats", parts=attribute["parts"], repeats=attribute["repeats"])
        tables.append(DossierTable(rows, (t("appraiser"), *kinds, t("AIAG's guide values")), caption))
    if variable := data.get("variable"):
        components = [
            (
                own["name"],
                number(own["sigma"]),
                _interval(own["of_total"], own["low"], own["high"]),
                "–" if own["of_tolerance"] is None else percent(own["of_tolerance"]),
            )
            for own in variable["components"]
        ]
        columns = ("", "σ", t("of the total variation"), t("of the tolerance"))
        caption = t("ndc {ndc}, GRR {grade}", ndc=variable["ndc"], grade=t(variable["grade"]))
        tables.append(DossierTable(components, columns, caption))
    if own := data.get("type_1"):
        names = {"bias": t("bias"), "sigma": "σ", "p": "p", "cg": "Cg", "cgk": "Cgk"}
        figures = [(name, number(own[key])) for key, name in names.items() if own[key] is not None]
        tables.append(DossierTable(figures, caption=t("type-1 study")))
    if own := data.get("linearity"):
        lines = (("slope", t("slope")), ("intercept", t("intercept")))
        figures = [(name, f"{own[key]['value']:.4g} (p {own[key]['p']:.2g})") for key, name in lines]
        tables.append(DossierTable(figures, caption=t("linearity")))
    for own in data.values():
        if isinstance(own, dict):
            warnings += [str(line) for line in own.get("warnings", [])]
    return tables, warnings


def _robustness(data: dict[str, Any], t: Translate) -> tuple[list[DossierTable], list[str]]:
    def level(value: float | None) -> str:
        return "–" if value is None else f"{value:g}"

    rows = [
        (t(own["name"]), t(own["unit"]), level(own["limit"]), level(own["first_stopped"]), level(own["first_missed"]))
        for own in data["sweeps"]
    ]
    header = (t("disturbance"), t("unit"), t("limit"), t("first good part stopped"), t("first defective part missed"))
    tables = [DossierTable(rows, header)]
    if data.get("limits"):
        limits = [(name, number(value)) for name, value in data["limits"].items()]
        tables.append(DossierTable(limits, caption=t("limits that the station watches")))
    return tables, [str(line) for line in data.get("warnings", [])]


def _drift(data: dict[str, Any], t: Translate) -> tuple[list[DossierTable], list[str]]:
    rows = []
    for name, own in (("EWMA", data["ewma"]), ("CUSUM", data["cusum"])):
        alarm = "–" if own["first_alarm"] is None else str(own["first_alarm"])
        rows.append((name, number(own["limit"]), number(own["arl"]), number(own["arl_resampled"]), alarm))
    header = ("", t("limit"), t("average run length"), t("simulated with these scores"), t("first alarm at part"))
    caption = t("{parts} parts, the first {baseline} are the baseline", parts=data["parts"], baseline=data["baseline"])
    warnings = [str(line) for line in data.get("warnings", [])]
    return [DossierTable(rows, header, caption)], [t("the scores have drifted")] * data["drifted"] + warnings


def _scale(data: dict[str, Any], t: Translate) -> tuple[list[DossierTable], list[str]]:
    rows = [
        (t("pixels per mm"), f"{data['x']:.6g} × {data['y']:.6g}"),
        (t("residual"), f"{data['residual_px']:.3f} px"),
        (t("lens distortion at the corners"), percent(abs(data["distortion"]))),
        (t("variation over the image"), percent(data["variation"])),
        (t("uncertainty, within which 90 % lie"), percent(data["uncertainty"])),
        (t("calibration target"), f"{data['columns']} × {data['rows']}, {data['pitch_mm']:g} mm"),
    ]
    return [DossierTable(rows)], []


def _uncertainty(manifest: Manifest, evidence: dict[str, dict[str, Any]], t: Translate) -> list[DossierTable]:
    """The components of the uncertainty budget that are known, each with where it comes from."""
    rows = []
    if manifest.scale is not None and manifest.scale.uncertainty:
        rows.append((t("Scale"), f"± {percent(manifest.scale.uncertainty)}", t("of the bundle, 90 % lie within")))
    own = manifest.measurement_uncertainty
    for name, errors in (own.errors if own is not None else {}).items():
        for one in errors:
            size = f"{name} {number(one.low)} – {number(one.high)} px"
            source = t("{count} defects of known size ({source})", count=one.defects, source=own.source if own else "")
            rows.append((size, f"± {percent(one.uncertainty)}", source))
    gauge = evidence.get("gauge", {})
    if "variable" in gauge:
        sigma = {one["name"]: one["sigma"] for one in gauge["variable"]["components"]}
        rows.append((t("repeatability"), f"σ {number(sigma['EV'])}", t("gauge study, in its unit")))
        rows.append((t("reproducibility"), f"σ {number(sigma['AV'])}", t("gauge study, in its unit")))
    if "type_1" in gauge:
        rows.append((t("bias"), number(gauge["type_1"]["bias"]), t("type-1 study")))
    return [DossierTable(rows, (t("component"), t("value"), t("source")))] if rows else []


def _rate(own: dict[str, Any], kappa: bool = False) -> str:
    if own["value"] is None:
        return "–"
    if kappa:
        ends = "" if own["low"] is None else f" ({own['low']:.2f} – {own['high']:.2f})"
        return f"{own['value']:.3f}{ends}"
    return _interval(own["value"], own["low"], own["high"])


def _interval(value: float, low: float, high: float) -> str:
    return f"{percent(value)} ({percent(low)} – {percent(high)})"
