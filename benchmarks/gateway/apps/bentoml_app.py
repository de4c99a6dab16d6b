"""A BentoML service with one worker."""

import os

import bentoml
import joblib
import numpy as np


@bentoml.service(workers=1, traffic={"timeout": 60})
class Iris:
    """Serves the model."""

    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL"])

    @bentoml.api(route="/invocations")
    def predict(self, rows: list[list[float]]) -> list[int]:
        """Answer with a class per row."""
        return self.model.predict(np.asarray(rows)).tolist()
