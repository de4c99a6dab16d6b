"""Real scikit-learn models, trained by the environment that will serve them, packed as users pack them."""

import io
import json
import subprocess
import tarfile
import textwrap
from pathlib import Path

INFERENCE = textwrap.dedent(
    """
    import os
    import joblib

    def model_fn(model_dir):
        return joblib.load(os.path.join(model_dir, "model.joblib"))
    """
)

TRAIN = textwrap.dedent(
    """
    import json, sys, joblib
    from sklearn.datasets import load_wine
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, labels = load_wine(return_X_y=True)
    held_out = rows[::5]
    models = {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        "forest": RandomForestClassifier(n_estimators=10, max_depth=1, random_state=7),
    }
    answers = {}
    for name, model in models.items():
        model.fit(rows[1::5], labels[1::5])
        joblib.dump(model, f"{sys.argv[1]}/{name}.joblib")
        answers[name] = model.predict(held_out).tolist()
    json.dump({"rows": held_out.tolist(), "answers": answers}, open(f"{sys.argv[1]}/expected.json", "w"))
    """
)


def train(python: str, folder: Path) -> dict[str, object]:
    """Train two different models; gives the held-out rows and what each model says of them."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([python, "-c", TRAIN, str(folder)], check=True, capture_output=True, text=True)
    expected: dict[str, object] = json.loads((folder / "expected.json").read_text())
    return expected


def pack(files: dict[str, bytes]) -> bytes:
    """Make a ``model.tar.gz`` of file names and contents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def code_only(source: str) -> bytes:
    """Make an artefact whose model is nothing but its ``inference.py``."""
    return pack({"code/inference.py": textwrap.dedent(source).encode()})


def trained(folder: Path, name: str, inference: str = INFERENCE) -> bytes:
    """Make the artefact of a trained model."""
    return pack(
        {
            "model.joblib": (folder / f"{name}.joblib").read_bytes(),
            "code/inference.py": inference.encode(),
        }
    )
