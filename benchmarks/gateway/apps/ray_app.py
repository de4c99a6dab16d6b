"""Ray Serve: one replica behind its own HTTP proxy."""

import os
import signal
from typing import Any

import joblib
import numpy as np
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 0.5}, max_ongoing_requests=100)
class Iris:
    """Serves the model."""

    def __init__(self, path: str) -> None:
        self.model = joblib.load(path)

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Answer with a class per row."""
        rows = (await request.json())["instances"]
        return {"predictions": self.model.predict(np.asarray(rows)).tolist()}


ray.init(
    num_cpus=2,
    include_dashboard=False,
    object_store_memory=100 << 20,
    logging_level="ERROR",
    _node_ip_address="127.0.0.1",
)
serve.start(
    http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])}, logging_config={"enable_access_log": False}
)
serve.run(Iris.bind(os.environ["MODEL"]), route_prefix="/invocations")
signal.pause()
