"""Parts of the line in groups by hour, shift or lot, oldest first, for control charts."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.station.models import InspectionRow, RecipeRow, RegionRow
from blemish.station.populations import recipe_parts
from blemish.station.production_counts import last_shifts
from blemish.station.repository import is_production

GROUPED_BY = ("hour", "shift", "lot")
MAX_PARTS, MAX_GROUPS = 10_000, 60  # the newest
GroupKey = tuple[str, str]  # name, and offset from UTC


@dataclass(slots=True)
class Subgroup:
    """The parts of one hour, shift or lot; `lengths` are those of their defects."""

    name: str
    parts: int = 0
    rejects: int = 0
    defects: int = 0
    lengths: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class MeasuredLength:
    """A defect's length, in mm where all have a scale, and else in px."""

    time: datetime
    value: float


@dataclass(frozen=True, slots=True)
class GroupedParts:
    groups: list[Subgroup]
    lengths: list[MeasuredLength]
    unit: str  # of the lengths
    cut: int = 0  # groups that are left out, because they reach back beyond the newest parts


def load_groups(session: Session, station: str, recipe: RecipeRow, by: str, shifts: Sequence[str]) -> GroupedParts:
    """The newest parts of a recipe on a station; parts without a lot are in no group where lots are asked for.

    A group that reaches back beyond the newest `MAX_PARTS` parts is left out, and counted: it is not whole.
    """
    row, region = InspectionRow, RegionRow
    line = (recipe_parts(session, recipe, station), is_production())
    query = select(row.id, row.created_at, row.lot, row.verdict).where(*line).order_by(row.id.desc())
    newest = session.execute(query.limit(MAX_PARTS + 1)).all()
    parts, before = newest[:MAX_PARTS][::-1], newest[MAX_PARTS:]  # and the part before them, if there is one
    if not parts:
        return GroupedParts([], [], "px")
    length_mm = region.measurements["length_mm"].as_float()
    query_regions = select(region.inspection_id, region.length_px, length_mm).join(row, row.id == region.inspection_id)
    query_regions = query_regions.where(*line, row.id >= parts[0].id).order_by(region.id)
    regions = session.execute(query_regions).all()
    in_mm = bool(regions) and all(mm is not None for _, _, mm in regions)
    name_of = _name_groups(by, shifts, parts[0].created_at)
    groups: dict[GroupKey, Subgroup] = {}
    by_part: dict[int, tuple[Subgroup | None, datetime]] = {}
    for key, time, lot, verdict in parts:
        name = name_of(time, lot)
        group = None if name is None else groups.setdefault(name, Subgroup(name[0]))
        by_part[key] = group, time
        if group is not None:
            group.parts += 1
            group.rejects += verdict == "reject"
    lengths = []
    for key, px, mm in regions:
        if key not in by_part:
            continue  # of a part that came meanwhile
        group, time = by_part[key]
        value = mm if in_mm else px
        if group is not None:
            group.defects += 1
        if value is not None:
            lengths.append(MeasuredLength(time, value))
            if group is not None:
                group.lengths.append(value)
    shown = dict(list(groups.items())[-MAX_GROUPS:])
    cut: set[GroupKey | None] = {name_of(part.created_at, part.lot) for part in before}
    if by == "lot" and before:
        older = select(row.lot).where(*line, row.id <= before[0].id, row.lot.in_([lot for lot, _ in shown])).distinct()
        cut = {(lot, "") for lot in session.scalars(older) if lot is not None}
    whole = {key: group for key, group in shown.items() if key not in cut}
    _tell_apart(whole)
    return GroupedParts(list(whole.values()), lengths, "mm" if in_mm else "px", len(shown) - len(whole))


def _tell_apart(groups: dict[GroupKey, Subgroup]) -> None:
    """Groups of one name, such as the two hours of the clock's change in autumn, are named with their offset."""
    times = Counter(name for name, _ in groups)
    for (name, offset), group in groups.items():
        if times[name] > 1:
            group.name = f"{name} {offset}"


def _name_groups(by: str, shifts: Sequence[str], oldest: datetime) -> Callable[[datetime, str | None], GroupKey | None]:
    """The name of the group of a part, by its time and lot, with its offset from UTC; None: it is in none."""
    if by == "lot":
        return lambda time, lot: None if lot is None else (lot, "")
    if by == "hour":
        return lambda time, lot: (f"{time.astimezone():%Y-%m-%d %H:00}", f"{time.astimezone():%z}")
    now_ = datetime.now(UTC)
    number = ((now_ - oldest) // timedelta(days=1) + 3) * max(1, len(set(shifts)))
    starts = sorted(start for start, _ in last_shifts(now_ + timedelta(days=1), shifts, number))

    def name_shift(time: datetime, lot: str | None) -> GroupKey:
        start = starts[max(0, bisect_right(starts, time) - 1)]
        return f"{start:%Y-%m-%d %H:%M}", f"{start:%z}"

    return name_shift


def local_names(session: Session, ids: Sequence[int]) -> list[str]:
    """The local times of parts, as names on an axis."""
    row, times = InspectionRow, {}
    for begin in range(0, len(ids), 500):
        query = select(row.id, row.created_at).where(row.id.in_(ids[begin : begin + 500]))
        times.update({key: time for key, time in session.execute(query)})
    return [short_time(times[key]) if key in times else str(key) for key in ids]


def short_time(time: datetime) -> str:
    return f"{time.astimezone():%m-%d %H:%M:%S}"
