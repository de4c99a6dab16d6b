"""LitServe as its documentation shows it: one worker, no batching."""

import os
from typing import Any

import joblib
import litserve
import numpy as np


class Iris(litserve.LitAPI):
    """Serves the model."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's name
        """Load it."""
        self.model = joblib.load(os.environ["MODEL"])

    def decode_request(self, request: dict[str, Any]) -> Any:
        """Read rows."""
        return np.asarray(request["instances"])

    def predict(self, rows: Any) -> Any:
        """Classify them."""
        return self.model.predict(rows)

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Give the classes."""
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Iris(), accelerator="cpu", workers_per_device=1, timeout=False)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
