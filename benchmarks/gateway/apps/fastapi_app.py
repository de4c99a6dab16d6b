"""A model server as people write it by hand: FastAPI on uvicorn."""

import os

import joblib
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

model = joblib.load(os.environ["MODEL"])
app = FastAPI()


class Input(BaseModel):
    """Rows."""

    instances: list[list[float]]


@app.post("/invocations")
async def predict(data: Input) -> dict[str, list[int]]:
    """Answer with a class per row."""
    return {"predictions": model.predict(np.asarray(data.instances)).tolist()}
