"""The tables of a dossier, from the JSON that the commands write; each gives its tables and what was warned of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blemish.dataset.audit import FINDINGS
from blemish.qualify.robustness import TITLES
from blemish.report.evaluation_page import data_warnings
from blemish.report.formatting import number, percent, plain
from blemish.translation import Translate


@dataclass(frozen=True)
class DossierTable:
    rows: Sequence[tuple[str, ...]]
    header: tuple[str, ...] = ()
    caption: str = ""


def audit_tables(data: dict[str, Any], t: Translate) -> tuple[list[DossierTable], list[str]]:
    serious = t("yes") if data["serious"] else t("no")
    rows = [(t("images"), str(data["images"])), (t("serious findings"), serious)]
    rows += [(t(title), str(len(data[name]))) for name, title in FINDINGS if data.get(name)]
    rows += [(t("Files that were not read"), str(sum(data["passed_over"].values())))] * bool(data.get("passed_over"))
    return [DossierTable(rows)], [t("the audit has serious findings")] if data["serious"] else []


def evaluation_tables(data: dict[str, Any], t: Translate) -> tuple[list[DossierTable], list[str]]:
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
    unreadable = [t.line(str(line)) for line in about.get("unreadable", [])]
    return [DossierTable(rows)], [*data_warnings(about, t), *unreadable]


def pod_tables(data: dict[str, Any], t: Translate) -> tuple[list[DossierTable], list[str]]:
    def size(curve: dict[str, Any], name: str) -> str:
        value = curve.get(f"{name}_mm", curve[name])
        return "–" if value is None else f"{number(value)} {'mm' if f'{name}_mm' in curve else 'px'}"

    rows = [
        (str(own["kind"]), f"{own['strength']:g}", f"{own['hits']}/{own['trials']}",
         *(size(own, name) for name in ("a50", "a90", "a90_95")),
         t("; ").join(t.line(str(note)) for note in own.get("notes", ())))
        for own in data["curves"]
    ]  # fmt: skip
    header = (t("defect"), t("contrast"), t("detected"), "a50", "a90", "a90/95", t("notes"))
    return [DossierTable(rows, header)], [t.line(str(line)) for line in data.get("warnings", [])]


def gauge_tables(data: dict[str, Any], t: Translate) -> tuple[list[DossierTable], list[str]]:
    tables, warnings = [], []
    if attribute := data.get("attribute"):
        rates = ("within", "effectiveness", "reference_kappa", "miss_rate", "false_alarm_rate")
        rows = []
        for own in attribute["appraisers"]:
            cells = ("–" if own[name] is None else _rate(own[name], name.endswith("kappa")) for name in rates)
            rows.append((own["name"], *cells, "–" if own["grade"] is None else t(own["grade"])))
        kinds = (t("within"), t("effectiveness"), t("kappa"), t("miss rate"), t("false-alarm rate"))
        caption = t("parts: {parts}, repeats: {repeats}", parts=attribute["parts"], repeats=attribute["repeats"])
        tables.append(DossierTable(rows, (t("appraiser"), *kinds, t("AIAG's guide values")), caption))
    if variable := data.get("variable"):
        components = [
            (
                own["name"],
                number(own["sigma"]),
                interval_text(own["of_total"], own["low"], own["high"]),
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
            warnings += [t.line(str(line)) for line in own.get("warnings", [])]
    return tables, warnings


def robustness_tables(data: dict[str, Any], t: Translate) -> tuple[list[DossierTable], list[str]]:
    def level(value: float | None) -> str:
        return "–" if value is None else f"{value:g}"

    titles = [t(TITLES.get(own["name"], own["name"])) for own in data["sweeps"]]
    rows = [
        (title, t(own["unit"]), level(own["limit"]), level(own["first_stopped"]), level(own["first_missed"]))
        for title, own in zip(titles, data["sweeps"], strict=True)
    ]
    header = (t("disturbance"), t("unit"), t("limit"), t("first good part stopped"), t("first defective part missed"))
    tables = [DossierTable(rows, header)]
    sizes = dict.fromkeys(size for own in data["sweeps"] for one in own["levels"] for size in one["missed_by_size"])
    if sizes:
        ordered = sorted(sizes, key=lambda size: float(size.split()[0]))
        by_size = [
            (title, *(level(_first_missed(own, size)) for size in ordered))
            for title, own in zip(titles, data["sweeps"], strict=True)
        ]
        caption = t("first defective part missed, by the side of its largest defect in px")
        tables.append(DossierTable(by_size, (t("disturbance"), *ordered), caption))
    if data.get("limits"):
        limits = [(name, number(value)) for name, value in data["limits"].items()]
        tables.append(DossierTable(limits, caption=t("limits that the station watches")))
    return tables, [t.line(str(line)) for line in data.get("warnings", [])]


def _first_missed(sweep: dict[str, Any], size: str) -> float | None:
    """The mildest level at which a defect of the size class is missed."""
    for own in sweep["levels"]:
        if own["missed_by_size"].get(size, {"value": 0})["value"] > 0:
            return float(own["level"])
    return None


def drift_tables(data: dict[str, Any], t: Translate) -> tuple[list[DossierTable], list[str]]:
    rows = []
    for name, own in (("EWMA", data["ewma"]), ("CUSUM", data["cusum"])):
        alarm = "–" if own["first_alarm"] is None else str(own["first_alarm"])
        rows.append((name, number(own["limit"]), number(own["arl"]), number(own["arl_resampled"]), alarm))
    header = ("", t("limit"), t("average run length"), t("simulated with these scores"), t("first alarm at part"))
    caption = t("{parts} parts, the first {baseline} are the baseline", parts=data["parts"], baseline=data["baseline"])
    warnings = [t.line(str(line)) for line in data.get("warnings", [])]
    return [DossierTable(rows, header, caption)], [t("the scores have drifted")] * data["drifted"] + warnings


def scale_tables(data: dict[str, Any], t: Translate) -> tuple[list[DossierTable], list[str]]:
    rows = [
        (t("pixels per mm"), f"{data['x']:.6g} × {data['y']:.6g}"),
        (t("residual"), f"{data['residual_px']:.3f} px"),
        (t("lens distortion at the corners"), percent(abs(data["distortion"]))),
        (t("variation over the image"), percent(data["variation"])),
        (t("uncertainty, within which 90 % lie"), percent(data["uncertainty"])),
        (t("calibration target"), f"{data['columns']} × {data['rows']}, {data['pitch_mm']:g} mm"),
    ]
    return [DossierTable(rows)], []


def _rate(own: dict[str, Any], kappa: bool = False) -> str:
    if own["value"] is None:
        return "–"
    if kappa:
        ends = "" if own["low"] is None else f" ({own['low']:.2f} – {own['high']:.2f})"
        return f"{own['value']:.3f}{ends}"
    return interval_text(own["value"], own["low"], own["high"])


def interval_text(value: float, low: float, high: float) -> str:
    return f"{percent(value)} ({percent(low)} – {percent(high)})"
