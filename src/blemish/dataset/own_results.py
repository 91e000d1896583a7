"""Files of results that blemish itself wrote, which are no labels wherever they lie: told by keys of their own."""

import json
from pathlib import Path
from typing import Any

INSPECTED_BY = "inspected_by"  # key of a COCO file of inspections
# One key at least of what each command that reads a data set writes as JSON or YAML.
RESULT_KEYS = frozenset({"bundle", "found_by", "passed_over", "about", "max_verdict_changes", INSPECTED_BY})
_INSPECTION_KEYS = frozenset({"schema_version", "verdict", "regions"})
_LABEL_KEYS = frozenset({"annotations", "shapes"})  # of COCO and LabelMe, whose other keys are their writers' affair


def is_result(content: Any) -> bool:
    """Whether it has a key of results at its top level, or is an inspection; with labels, that of inspections alone."""
    if not isinstance(content, dict):
        return False
    if not _LABEL_KEYS.isdisjoint(content):
        return INSPECTED_BY in content
    return not RESULT_KEYS.isdisjoint(content) or content.keys() >= _INSPECTION_KEYS


def is_result_file(path: Path) -> bool:
    """Whether a JSON file, or the first of its JSON lines, is a result; False where it cannot be read.

    Only a file that holds one of the keys anywhere is parsed: one of annotations may be large.
    """
    try:
        data = path.read_bytes()
        if not any(f'"{key}"'.encode() in data for key in (*RESULT_KEYS, "verdict")):
            return False
        return is_result(json.JSONDecoder().raw_decode(data.decode("utf-8-sig").lstrip())[0])
    except (OSError, ValueError, RecursionError):
        return False
