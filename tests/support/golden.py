"""Golden tables: what each container answers to which request (data-plane.md sections 9.3 to 9.6).

Each row is a test (``tests/conformance/test_golden_answers.py``) and a line of docs/reference/toolkits.md, which
``python -m tests.support.golden`` writes anew.
"""

import re
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "toolkits.md"

JSON = "application/json"
CSV = "text/csv"
NPY = "application/x-npy"
LIBSVM = "text/libsvm"
LINES = "application/jsonlines"
CSV_OF_FLASK = "text/csv; charset=utf-8"
HTML = "text/html; charset=utf-8"
PLAIN = "text/plain; charset=utf-8"

UNKNOWN_TYPE = "Content type {} is not supported by this framework."
SERVER_ERROR = '{{\n  "code": {},\n  "type": "InternalServerException",\n  "message": "{}"\n}}\n'


def npy(values: Sequence[float], shape: tuple[int, ...], kind: str = "f8") -> bytes:
    """Make NumPy's file format, version 1.0, of one array."""
    header = f"{{'descr': '<{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    padding = -(len(header) + 11) % 64
    head = (header + " " * padding + "\n").encode()
    form = {"f8": "d", "f4": "f", "i8": "q"}[kind]
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + struct.pack(f"<{len(values)}{form}", *values)


def pickled() -> bytes:
    """Make NumPy's file format of an array of objects, whose pickle would run code where it is loaded."""
    header = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + b"cos\nabort\n(tR."


REFUSED_PICKLE = "Object arrays cannot be loaded when allow_pickle=False"


@dataclass(frozen=True)
class Row:
    """A request and its answer."""

    model: str
    """One of ``golden_models.MODELS``."""
    what: str
    """In words."""
    status: int
    content_type: str | None
    """None: the answer has none."""
    said: str | bytes
    """The body; ``…`` stands for anything in a text."""
    sent: str | bytes = ""
    given: str | None = None
    """Content-Type of the request."""
    accept: str | None = None

    @property
    def body(self) -> bytes:
        """The request's body."""
        return self.sent.encode() if isinstance(self.sent, str) else self.sent

    def fits(self, body: bytes) -> bool:
        """Tell whether this is the answer's body."""
        if isinstance(self.said, bytes):
            return body == self.said
        pattern = ".*".join(map(re.escape, self.said.split("…")))
        return re.fullmatch(pattern, body.decode(), re.DOTALL) is not None


TWO = "5.1,3.5,1.4,0.2\n6.7,3.0,5.2,2.3\n"
ONE = "[[5.1,3.5,1.4,0.2]]"

SKLEARN = (
    Row("sklearn", "CSV, two rows", 200, CSV_OF_FLASK, "0\n2\n", TWO, CSV, CSV),
    Row("sklearn", "CSV, two rows, no Accept", 200, JSON, "[0, 2]", TWO, CSV),
    Row("sklearn", "CSV, one row", 500, PLAIN, "ValueError: Expected 2D array…", "5.1,3.5,1.4,0.2\n", CSV),
    Row(
        "sklearn", "CSV with a parameter", 500, PLAIN,
        f"UnsupportedFormatError: {UNKNOWN_TYPE.format('text/csv; charset=utf-8')}…", TWO, "text/csv; charset=utf-8",
    ),
    Row("sklearn", "CSV with a header", 500, PLAIN, "ValueError: could not convert string…", "x,y\n1,2\n", CSV),
    Row("sklearn", "empty body", 500, PLAIN, "ValueError: Expected 2D array…", "", CSV),
    Row("sklearn", "JSON", 200, JSON, "[0]", ONE, JSON),
    Row("sklearn", "neither Content-Type nor Accept", 200, JSON, "[0]", ONE),
    Row("sklearn", "any Accept", 200, JSON, "[0]", ONE, None, "*/*"),
    Row("sklearn", "malformed JSON", 500, PLAIN, "json.decoder.JSONDecodeError: …", "[[1,", JSON),
    Row("sklearn", "NPY", 200, NPY, npy([0], (1,), "i8"), npy([5.1, 3.5, 1.4, 0.2], (1, 4)), NPY, NPY),
    Row("sklearn", "pickle in NPY", 500, PLAIN, f"ValueError: {REFUSED_PICKLE}", pickled(), NPY),
    Row("sklearn", "not NPY", 500, PLAIN, "…", "1", NPY),
    Row(
        "sklearn", "unknown Content-Type", 500, PLAIN,
        f"UnsupportedFormatError: {UNKNOWN_TYPE.format('image/png')}…", b"\x00", "image/png",
    ),
    Row(
        "sklearn", "unknown Accept", 500, PLAIN, f"UnsupportedFormatError: {UNKNOWN_TYPE.format('image/png')}…",
        TWO, CSV, "image/png",
    ),
    Row(
        "sklearn", "list in Accept", 500, PLAIN,
        f"UnsupportedFormatError: {UNKNOWN_TYPE.format('text/csv, application/json')}…",
        TWO, CSV, "text/csv, application/json",
    ),
)  # fmt: skip

_ONE = "5.1,3.5,1.4,0.2\n"

SKLEARN_OF_SEVERAL = (
    Row("sklearn of several", "CSV, one row: one row", 200, JSON, "[0]", _ONE, CSV),
    Row("sklearn of several", "CSV, two rows", 200, CSV, "0\n2\n", TWO, CSV, CSV),
    Row("sklearn of several", "CSV with a header", 500, None, "…\nTraceback…", "x,y\n1,2\n", CSV),
    Row("sklearn of several", "wrong width", 500, None, "X has 1 features, but…\nTraceback…", "[1]", JSON),
    Row("sklearn of several", "list in Accept", 500, None,
        f"{UNKNOWN_TYPE.format('text/csv, application/json')}…\nTraceback…", TWO, CSV, "text/csv, application/json"),
    Row("sklearn of several", "no Content-Type", 500, None, f"{UNKNOWN_TYPE.format('None')}…", ONE),
)  # fmt: skip

HIGH, LOW, REST = "0.731058597564697…", "0.268941432237625…", "0.2689414…"
RIGHT, LEFT = "1,0,0,0", "0,0,0,0"
ACCEPTED = "['application/json', 'application/jsonlines', 'application/x-recordio-protobuf', 'text/csv']"
TAKEN = (
    "csv, libsvm, parquet, recordio-protobuf, text/csv, text/libsvm, text/x-libsvm, application/x-parquet, "
    "application/x-recordio-protobuf."
)
_MISREAD = "Loading {0} data failed with Exception, please ensure data is in {0} format:\n {1}"

XGBOOST = (
    Row("xgboost", "CSV, one row", 200, CSV_OF_FLASK, f"{HIGH}\n", RIGHT, CSV),
    Row("xgboost", "CSV, two rows", 200, CSV_OF_FLASK, f"{HIGH}\n{LOW}\n", f"{RIGHT}\n{LEFT}\n", CSV),
    Row("xgboost", "CSV with tabs and a missing value", 200, CSV_OF_FLASK, f"{HIGH}\n", "1\t\t0\t0", CSV),
    Row(
        "xgboost", "JSON wanted", 200, JSON, f'{{"predictions": [{{"score": {HIGH}}}, {{"score": {LOW}}}]}}',
        f"{RIGHT}\n{LEFT}", CSV, JSON,
    ),
    Row("xgboost", "libsvm from 1 on", 200, CSV_OF_FLASK, f"{HIGH}\n", "0 1:1 2:0 3:0 4:0", LIBSVM, CSV),
    Row("xgboost", "libsvm from 0 on", 200, CSV_OF_FLASK, f"{LOW}\n", "0:0 1:1", "text/x-libsvm"),
    Row("xgboost", "no Content-Type: libsvm", 200, CSV_OF_FLASK, f"{HIGH}\n", "1 1:1 4:0"),
    Row("xgboost", "Content-Type with a parameter", 200, CSV_OF_FLASK, f"{HIGH}\n", RIGHT, "text/csv; charset=utf-8"),
    Row(
        "xgboost", "label_size other than 1", 415, HTML,
        "text/csv;label_size=2 is not an accepted csv ContentType. Optional parameter label_size must be equal to 1",
        RIGHT, "text/csv;label_size=2",
    ),
    Row("xgboost", "JSON sent", 415, HTML, f"application/json is not an accepted ContentType: {TAKEN}", "[1]", JSON),
    Row(
        "xgboost", "CSV of words", 415, HTML,
        _MISREAD.format("csv", "<class 'ValueError'>\n could not convert string to float: 'a'"), "a,b", CSV,
    ),
    Row("xgboost", "libsvm of words", 415, HTML, _MISREAD.format("libsvm", "<class 'ValueError'>\n …"), "1 a:b"),
    Row(
        "xgboost", "recordio-protobuf", 415, HTML,
        "Content-type application/x-recordio-protobuf is not built into Moorage: send text/csv or text/libsvm instead.",
        b"\x0a", "application/x-recordio-protobuf",
    ),
    Row(
        "xgboost", "parquet", 415, HTML,
        "Content-type application/x-parquet is not built into Moorage: send text/csv or text/libsvm instead.",
        b"PAR1", "application/x-parquet",
    ),
    Row("xgboost", "narrower rows, native booster", 200, CSV_OF_FLASK, f"{HIGH}\n", "1,0", CSV),
    Row(
        "xgboost pickled", "wrong width, pickled booster", 400, HTML,
        "Unable to evaluate payload provided: Feature size of csv inference data 2 is not consistent with feature size "
        "of trained model 4.", "1,0", CSV,
    ),
    Row("xgboost pickled", "right width, pickled booster", 200, CSV_OF_FLASK, f"{HIGH}\n", RIGHT, CSV),
    Row(
        "xgboost", "unknown Accept", 406, HTML,
        f"Accept type text/html is not supported. Please use supported accept types: {ACCEPTED}.", RIGHT, CSV,
        "text/html",
    ),
    Row(
        "xgboost", "JSON lines without SAGEMAKER_INFERENCE_OUTPUT", 500, PLAIN,
        f"UnsupportedFormatError: {UNKNOWN_TYPE.format(LINES)}…", RIGHT, CSV, LINES,
    ),
    Row("xgboost", "empty body", 204, HTML, "", "", CSV),
    Row("xgboost", "larger than MAX_CONTENT_LENGTH", 413, PLAIN, "The request's body is larger than…",
        b"1" * (6 * 1024**2 + 1), CSV),
    Row("xgboost ensemble", "all files: the mean", 200, CSV_OF_FLASK, "0.6767…\n", RIGHT, CSV),
    Row("xgboost first of ensemble", "SAGEMAKER_INFERENCE_ENSEMBLE=false", 200, CSV_OF_FLASK, f"{HIGH}\n", RIGHT, CSV),
    Row("xgboost softprob", "several classes", 200, CSV_OF_FLASK, "0…,0…,0…\n", RIGHT, CSV),
    Row(
        "xgboost softprob", "several classes in JSON", 200, JSON, '{"predictions": [{"score": [0…, 0…, 0…]}]}',
        RIGHT, CSV, JSON,
    ),
    Row(
        "xgboost selected", "selected parts", 200, CSV_OF_FLASK, f'"[{REST}, {HIGH}]",1,nan', RIGHT, CSV,
    ),
    Row(
        "xgboost selected", "selected parts in JSON", 200, JSON,
        f'{{"predictions": [{{"predicted_label": 1, "probabilities": [{REST}, {HIGH}], "predicted_score": NaN}}]}}',
        RIGHT, CSV, JSON,
    ),
    Row(
        "xgboost selected", "selected parts in JSON lines", 200, LINES,
        '{"predicted_label": 1, …}\n{"predicted_label": 0, …}\n', f"{RIGHT}\n{LEFT}", CSV, LINES,
    ),
    Row("xgboost batch", "SAGEMAKER_BATCH", 200, JSON, f"{HIGH}\n{LOW}\n", f"{RIGHT}\n{LEFT}", CSV, JSON),
    Row("xgboost script", "script mode, CSV", 200, JSON, f"[{HIGH}]", RIGHT, CSV),
    Row("xgboost script", "script mode, CSV to CSV", 200, CSV_OF_FLASK, "0.7310586\n0.26894143\n",
        f"{RIGHT}\n{LEFT}", CSV, CSV),
    Row("xgboost script", "script mode, libsvm", 200, JSON, f"[{HIGH}]", "0 1:1 4:0", LIBSVM),
    Row(
        "xgboost script", "script mode, JSON sent", 500, PLAIN,
        f"UnsupportedFormatError: {UNKNOWN_TYPE.format(JSON)}…", "[[1, 0, 0, 0]]", JSON,
    ),
    Row(
        "xgboost script", "script mode, unknown Accept", 500, PLAIN,
        f"UnsupportedFormatError: {UNKNOWN_TYPE.format('image/png')}…", RIGHT, CSV, "image/png",
    ),
)  # fmt: skip

XGBOOST_OF_SEVERAL = (
    Row("xgboost of several", "no Accept: JSON", 200, JSON, f"[{HIGH}, {LOW}]", f"{RIGHT}\n{LEFT}", CSV),
    Row("xgboost of several", "CSV", 200, CSV, f"{HIGH},{LOW}", f"{RIGHT}\n{LEFT}", CSV, CSV),
    Row("xgboost of several", "wrong width", 400, None,
        "Unable to evaluate payload provided: Feature size of csv inference data 2 is not consistent with feature size "
        "of trained model 4.", "1,0", CSV),
    Row("xgboost of several", "unknown Accept", 415, None,
        "Encoding to accept type image/png failed with exception: image/png is not an accepted Accept type. Please "
        "choose one of the following: ['text/csv', 'application/json'].", RIGHT, CSV, "image/png"),
    Row("xgboost of several", "unknown Content-Type", 415, None, f"image/png is not an accepted ContentType: {TAKEN}",
        b"\0", "image/png"),
    Row("xgboost of several", "empty body", 204, HTML, "", "", CSV),
    Row("xgboost script of several", "script mode, CSV", 200, CSV, "0.7310586\n", RIGHT, CSV, CSV),
    Row("xgboost script of several", "script mode, JSON sent", 500, None, f"{UNKNOWN_TYPE.format(JSON)}…\nTraceback…",
        "[1]", JSON),
)  # fmt: skip

PYTORCH = (
    Row("pytorch", "JSON", 200, JSON, "[[5.0], [11.0]]", "[[1, 2], [3, 4]]", JSON),
    Row("pytorch", "CSV", 200, CSV, "5.0\n12.0\n", "1,2\n3,4.5\n", CSV, CSV),
    Row("pytorch", "CSV, one row: one dimension", 200, JSON, "[5.0]", "1,2", CSV),
    Row("pytorch", "NPY of float32", 200, NPY, npy([5.0], (1, 1)), npy([1, 2], (1, 2), "f4"), NPY, NPY),
    Row("pytorch", "NPY of float64, which the model does not take", 500, None, "…Traceback (most recent call last)…",
        npy([1, 2], (1, 2)), NPY, NPY),
    Row("pytorch", "pickle in NPY", 500, None, f"{REFUSED_PICKLE}\nTraceback…", pickled(), NPY, NPY),
    Row("pytorch", "list in Accept: repeated word for word", 200, "text/csv, application/json", "5.0\n", "[[1, 2]]",
        JSON, "text/csv, application/json"),
    Row("pytorch", "unknown types in Accept before a known one", 200, "text/html,application/json", "[[5.0]]",
        "[[1, 2]]", JSON, "text/html,application/json"),
    Row("pytorch", "unknown Accept", 500, None, f"{UNKNOWN_TYPE.format('text/html')}…\nTraceback (most recent…",
        "[[1, 2]]", JSON, "text/html"),
    Row("pytorch", "unknown Content-Type", 500, None, f"{UNKNOWN_TYPE.format('image/png')}…\nTraceback…", b"\0",
        "image/png"),
    Row("pytorch", "no Content-Type", 500, None, f"{UNKNOWN_TYPE.format('None')}…\nTraceback…", "[[1, 2]]"),
    Row("pytorch", "CSV with a parameter", 500, None, f"{UNKNOWN_TYPE.format('text/csv; charset=utf-8')}…", "1,2",
        "text/csv; charset=utf-8"),
    Row("pytorch", "malformed JSON", 500, None, "Expecting value: line 1 column 3 (char 2)\nTraceback…", "[[", JSON),
    Row("pytorch", "larger than TS_MAX_REQUEST_SIZE", 413, JSON,
        '{\n  "code": 413,\n  "type": "RequestEntityTooLargeException",\n  "message": "…"\n}\n',
        b" " * 6_553_501, JSON),
    Row("pytorch script", "own functions", 200, JSON, "[3.0, 7.0]", "[[1.0, 2], [3, 4]]", JSON),
    Row("pytorch script", "an error with a status", 422, None, "negative\nTraceback…", "[[-1]]", JSON),
    Row("pytorch wrong arity", "function of too few arguments", 500, None,
        "predict_fn takes 1 arguments but 2 were given.\nTraceback…", "[[1]]", JSON),
)  # fmt: skip

HUGGING_FACE = (
    Row("huggingface", "JSON", 200, JSON, '[{"label":"FÄHRT","score":0.88…}]', '{"inputs": "the good ship"}', JSON),
    Row("huggingface", "parameters", 200, JSON, '[{"label":"FÄHRT","score":0.88…},{"label":"SINKT","score":0.11…}]',
        '{"inputs": "the good ship", "parameters": {"top_k": 2}}', JSON),
    Row("huggingface", "several inputs", 200, JSON, '[{"label":…},{"label":…}]', '{"inputs": ["good", "bad"]}', JSON),
    Row("huggingface", "CSV with its header", 200, JSON, '[{"label":…},{"label":…}]', "inputs\ngood\nbad\n", CSV),
    Row("huggingface", "CSV wanted", 200, CSV, "label,score\r\nFÄHRT,0.88…\r\n", '{"inputs": "good"}', JSON, CSV),
    Row("huggingface", "any Accept", 200, JSON, '[{"label":…}]', '{"inputs": "good"}', JSON, "*/*"),
    Row("huggingface", "CSV without a header", 400, JSON, SERVER_ERROR.format(
        400, "You need to provide the correct CSV with Header columns to use it with the inference toolkit default "
        "handler. : 400"), "good\nbad\n", CSV),
    Row("huggingface", "malformed JSON", 400, JSON, SERVER_ERROR.format(400, "Expecting … (char 1)"), "{", JSON),
    Row("huggingface", "JSON that is no object", 400, JSON, SERVER_ERROR.format(
        400, "pop expected at most 1 argument, got 2"), "[1]", JSON),
    Row("huggingface", "inputs that are no text", 400, JSON, SERVER_ERROR.format(400, "…"), '{"inputs": 5}', JSON),
    Row("huggingface", "unknown Content-Type", 400, JSON, SERVER_ERROR.format(
        400, UNKNOWN_TYPE.format("text/plain") + "…"), "good", "text/plain"),
    Row("huggingface", "no Content-Type", 400, JSON, SERVER_ERROR.format(400, UNKNOWN_TYPE.format("None") + "…"),
        '{"inputs": "good"}'),
    Row("huggingface", "list in Accept", 400, JSON, SERVER_ERROR.format(
        400, UNKNOWN_TYPE.format("text/csv, application/json") + "…"), '{"inputs": "good"}', JSON,
        "text/csv, application/json"),
    Row("huggingface", "pickle in NPY", 400, JSON, SERVER_ERROR.format(400, REFUSED_PICKLE.replace("=", "\\u003d")),
        pickled(), NPY),
    Row("huggingface", "not an image", 400, JSON, SERVER_ERROR.format(400, "cannot identify image file …"), b"\0",
        "image/png"),
)  # fmt: skip

_TYPES = "application/json, text/csv, application/x-npy."

ONNX = (
    Row("onnx", "JSON", 200, JSON, "[[5.0], [11.0]]", "[[1, 2], [3, 4]]", JSON),
    Row("onnx", "no Content-Type: JSON; one row without its batch", 200, JSON, "[[5.0]]", "[1, 2]"),
    Row("onnx", "inputs by name", 200, JSON, "[[5.0]]", '{"x": [[1, 2]]}', JSON),
    Row("onnx", "CSV with a parameter, one row", 200, CSV_OF_FLASK, "5.0\n", "1,2", "text/csv; charset=utf-8", CSV),
    Row("onnx", "NPY", 200, NPY, npy([5.0], (1, 1), "f4"), npy([1, 2], (1, 2)), NPY, NPY),
    Row("onnx", "list in Accept: the first that is known", 200, JSON, "[[5.0]]", "[[1, 2]]", JSON,
        "text/html, application/json;q=0.9"),
    Row("onnx", "unknown name", 400, PLAIN, "The model's inputs are x; given are z.", '{"z": [[1, 2]]}', JSON),
    Row("onnx", "wrong width", 400, PLAIN, "The data does not fit the model: …", "[[1, 2, 3]]", JSON),
    Row("onnx", "words", 400, PLAIN, "The input x is a tensor(float): could not convert string to float: 'a'.",
        '[["a", "b"]]', JSON),
    Row("onnx", "malformed JSON", 400, PLAIN, "The body is not application/json: …", "[[", JSON),
    Row("onnx", "pickle in NPY", 400, PLAIN, f"The body is not application/x-npy: {REFUSED_PICKLE}.", pickled(), NPY),
    Row("onnx", "not NPY", 400, PLAIN, "The body is not application/x-npy: …", "abc", NPY),
    Row("onnx", "unknown Content-Type", 415, PLAIN, f"image/png cannot be read; send {_TYPES}", b"\0", "image/png"),
    Row("onnx", "unknown Accept", 406, PLAIN, f"text/html cannot be answered; ask for {_TYPES}", "[[1, 2]]", JSON,
        "text/html"),
    Row("onnx of several", "several inputs and outputs", 200, JSON, '{"sum": [[4.0, 6.0]], "product": [[3.0, 8.0]]}',
        '{"a": [[1, 2]], "b": [[3, 4]]}', JSON),
    Row("onnx of several", "several outputs in CSV", 200, CSV_OF_FLASK, "4.0,6.0,3.0,8.0\n",
        '{"a": [[1, 2]], "b": [[3, 4]]}', JSON, CSV),
    Row("onnx of several", "several outputs in NPY", 400, PLAIN,
        "application/x-npy has one array, and the model gives sum, product: ask for application/json.",
        '{"a": [[1, 2]], "b": [[3, 4]]}', JSON, NPY),
    Row("onnx of several", "an array for several inputs", 400, PLAIN,
        "The model has several inputs: send a JSON object of a, b.", "[[1, 2]]", JSON),
)  # fmt: skip

PYTHON = (
    Row("python", "JSON", 200, JSON, '{"got": [1, "a"], "model": null}', '[1, "a"]', JSON),
    Row("python", "no Content-Type: JSON", 200, JSON, '{"got": 1, "model": null}', "1"),
    Row("python", "bytes", 200, "application/octet-stream", b"\x00\xff", b"\x00\xff", "application/octet-stream"),
    Row("python", "bytes with Accept", 200, "image/png", b"\x00\xff", b"\x00\xff", "image/jpeg", "image/png"),
    Row("python", "text", 200, PLAIN, "Fähre", "Fähre", "text/plain; charset=utf-8"),
    Row("python", "text that is none", 400, PLAIN, "The body is not text in UTF-8: …", b"\xff", "text/plain"),
    Row("python", "malformed JSON", 400, PLAIN, "The body is not JSON: …", "{", JSON),
    Row("python", "an exception", 500, PLAIN, "RuntimeError: no rudder", "fail", "text/plain"),
)

TABLES: dict[str, tuple[str, tuple[Row, ...]]] = {
    "scikit-learn": ("sklearn", SKLEARN),
    "scikit-learn of several models": ("sklearn of several", SKLEARN_OF_SEVERAL),
    "XGBoost": ("xgboost", XGBOOST),
    "XGBoost of several models": ("xgboost of several", XGBOOST_OF_SEVERAL),
    "PyTorch": ("pytorch", PYTORCH),
    "Hugging Face": ("huggingface", HUGGING_FACE),
    "ONNX": ("onnx", ONNX),
    "Plain Python": ("python", PYTHON),
}
"""By the container: the mark of its table in the page, which is a model's name too, and what it answers."""

ROWS = tuple(row for _toolkit, rows in TABLES.values() for row in rows)


def table_of(rows: Sequence[Row]) -> str:
    """Write rows as a table of Markdown."""
    lines = ["| Request | Content-Type | Accept | Status | Content-Type | Body |", "| --- " * 6 + "|"]
    for row in rows:
        cells = (row.what, _code(row.given), _code(row.accept), str(row.status), _code(row.content_type), _body(row))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _code(text: str | None) -> str:
    return f"`{text}`" if text else ""


def _body(row: Row) -> str:
    if isinstance(row.said, bytes):
        return "an array" if row.content_type == NPY else "the bytes"
    shown = row.said.replace("\r", "\\r").replace("\n", "\\n").replace("|", "\\|")
    return _code(shown) if shown != "…" else "…"


def with_tables(page: str) -> str:
    """Put the tables into the page, each between its two marks."""
    for toolkit, rows in TABLES.values():
        begin, end = f"<!-- golden {toolkit} -->\n", "<!-- end -->"
        head, _, rest = page.partition(begin)
        page = f"{head}{begin}{table_of(rows)}\n{end}{rest.partition(end)[2]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{PAGE}: {len(ROWS)} rows\n")
