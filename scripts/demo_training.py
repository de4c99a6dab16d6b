"""Train two different models on the breast cancer data set that comes with scikit-learn, and pack each for hosting.

Run by the Python of the image's environment, because a pickle wants the scikit-learn that made it. It leaves in the
folder it is given: logistic.tar.gz, forest.tar.gz (``model.joblib`` and ``code/inference.py``), held_out.json, and the
first of its rows as rows.csv.
"""

import json
import sys
import tarfile
from pathlib import Path

import joblib
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# What SageMaker's scikit-learn container wants to be told: how to load the model. All else has a default.
INFERENCE = """\
import os
import joblib

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))
"""


def main(folder: Path) -> None:
    """Train, pack, and keep the rows that no model has seen."""
    rows, labels = load_breast_cancer(return_X_y=True)
    seen, held_out, seen_labels, held_out_labels = train_test_split(
        rows, labels, test_size=0.4, random_state=0, stratify=labels
    )
    models = {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "forest": RandomForestClassifier(n_estimators=20, max_depth=3, random_state=0),
    }
    for name, model in models.items():
        model.fit(seen, seen_labels)
        joblib.dump(model, folder / "model.joblib")
        (folder / "inference.py").write_text(INFERENCE)
        with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as archive:
            archive.add(folder / "model.joblib", "model.joblib")
            archive.add(folder / "inference.py", "code/inference.py")
    held = {"rows": held_out.tolist(), "labels": held_out_labels.tolist()}
    (folder / "held_out.json").write_text(json.dumps(held))
    (folder / "rows.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in held["rows"][:3]))


main(Path(sys.argv[1]))
