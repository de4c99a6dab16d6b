"""What the tests of single rooms share."""

import asyncio

import pytest

from moorage.base.clock import SystemClock
from moorage.base.settings import cache_dir
from moorage.engine.environments import Environment, Environments
from moorage.engine.images.builtin import BuiltinImage, resolve

IMAGE_URI = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"


@pytest.fixture(scope="session")
def sklearn_image() -> BuiltinImage:
    """Give the built-in image of the tests."""
    image = resolve(IMAGE_URI)
    assert image is not None
    return image


@pytest.fixture(scope="session")
def sklearn_environment(sklearn_image: BuiltinImage) -> Environment:
    """Give the environment of scikit-learn 1.2-1, in the user's cache: built by whichever test comes first."""
    environments = Environments(cache_dir() / "environments", SystemClock())
    return asyncio.run(environments.ensure(sklearn_image, print))
