"""Measured rows in a file, so that nothing is measured twice and an interrupted run continues."""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from runs import Row, append, kept_rows

KEYS = ("method", "options", "settings", "set", "classes", "shots", "seed")


def arguments(doc: str | None, methods: str, sets: Iterable[str]) -> argparse.Namespace:
    """Arguments of a benchmark that keeps its rows: data, methods, sets, seeds and the file of the rows."""
    found = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--data", type=Path, required=True)
    found.add_argument("--methods", default=methods)
    found.add_argument("--sets", default=",".join(sets))
    found.add_argument("--seeds", default="0,1,2")
    found.add_argument("--json", type=Path, help="append each row to this file; what it has is not measured again")
    return found.parse_args()


class RowStore:
    """Rows in a .jsonl file, and baseline arrays of later rows in a file next to it."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.done = {row_key(row) for row in kept_rows(path)}
        self.arrays: dict[str, NDArray[Any]] = {}
        if path is not None and path.with_suffix(".npz").exists():
            with np.load(path.with_suffix(".npz"), allow_pickle=False) as held:
                self.arrays = dict(held)

    def has(self, what: Row) -> bool:
        return row_key(what) in self.done

    def add(self, row: Row) -> None:
        print(json.dumps(row, ensure_ascii=False), flush=True)
        self.done.add(row_key(row))
        append(self.path, row)

    def array(self, what: Row) -> NDArray[Any] | None:
        return self.arrays.get("|".join(row_key(what)))

    def keep(self, what: Row, array: NDArray[Any]) -> None:
        self.arrays["|".join(row_key(what))] = array
        if self.path is not None:
            fresh = self.path.with_suffix(".new.npz")
            np.savez_compressed(fresh, **self.arrays)
            fresh.replace(self.path.with_suffix(".npz"))  # never half written


def row_key(row: Row) -> tuple[str, ...]:
    return tuple(str(row.get(name, "")) for name in KEYS)
