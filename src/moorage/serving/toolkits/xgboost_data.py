"""What XGBoost's container reads: CSV and libsvm into a DMatrix (data-plane.md section 9.4).

By one thread, as the container predicts too: to wake others costs more than a request's rows.
"""

from __future__ import annotations

import csv
from typing import Any

_SNIFFED = 512
"""Characters of the first row that its delimiter is guessed from."""


def parse_header(value: str) -> tuple[str, dict[str, str]]:
    """Divide a header's value into what it says and its parameters, by lower-case name."""
    first, *rest = value.split(";")
    parameters = {}
    for entry in rest:
        name, separator, said = entry.partition("=")
        if separator:
            parameters[name.strip().lower()] = said.strip().strip('"')
    return first.strip(), parameters


def from_csv(text: str) -> Any:
    """Make a DMatrix of rows of numbers; an empty cell is a missing value. Raises ValueError, csv.Error."""
    import numpy as np
    from xgboost import DMatrix

    lines = text.split("\n")
    delimiter = _delimiter_of(lines[0][:_SNIFFED])
    rows = [[float(cell) if cell else np.nan for cell in line.split(delimiter)] for line in lines]
    return DMatrix(np.array(rows, dtype=float), nthread=1)


def _delimiter_of(start: str) -> str:
    """Guess as ``csv.Sniffer`` does; what it would say of a row with commas and without quotes is said at once."""
    if "," in start and '"' not in start and "'" not in start:
        return ","
    guessed = csv.Sniffer().sniff(start).delimiter
    return "," if guessed.isalnum() else guessed


def from_libsvm(text: str) -> Any:
    """Make a sparse DMatrix of ``index:value`` pairs; labels are passed over, indices from 1 on count from 0."""
    import numpy as np
    from scipy.sparse import csr_matrix
    from xgboost import DMatrix

    rows, columns, values = [], [], []
    for number, line in enumerate(text.split("\n")):
        for item in line.split(" "):
            if ":" in item:
                column, value = item.split(":")[:2]
                rows.append(number)
                columns.append(int(column))
                values.append(float(value))
    shift = 1 if columns and min(columns) >= 1 else 0
    places = (np.array(rows, dtype=int), np.array(columns, dtype=int) - shift)
    return DMatrix(csr_matrix((np.array(values, dtype=float), places)), nthread=1)


def from_dense_libsvm(text: str) -> Any:
    """Make a DMatrix of ``index:value`` pairs as the container's script mode does: what is not there is 0."""
    import numpy as np
    from xgboost import DMatrix

    rows = [_pairs(line) for line in text.strip().split("\n")]
    indices = [index for row in rows for index in row]
    if not indices:
        return DMatrix(np.empty((0, 0)))
    shift = 1 if min(indices) >= 1 else 0
    data = np.zeros((len(rows), max(indices) - shift + 1))
    for row, pairs in zip(data, rows):
        for index, value in pairs.items():
            row[index - shift] = value
    return DMatrix(data, nthread=1)


def _pairs(line: str) -> dict[int, float]:
    pairs = {}
    for token in line.split():
        index, separator, value = token.partition(":")
        if separator:
            pairs[int(index)] = float(value)
    return pairs
