"""Pythons that a user has, as environments of instances: what is seen of them from inside."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.engines import OBEDIENT, Bench
from tests.support.pythons import DEBIANS, make_venv, needs_debians_torch, other_python, put_package

from moorage.base.clock import SystemClock
from moorage.engine.built_environments import BuiltEnvironments, EnvironmentInUse
from moorage.engine.environments import Environment, Environments
from moorage.engine.images.added import AddedPython, AddedPythons
from moorage.engine.images.builtin import resolve


async def environment_of(python: Path, folder: Path) -> Environment:
    """Give what an instance of a model whose image this Python is runs in."""
    pythons = AddedPythons(folder / "data")
    pythons.put(AddedPython("my/env", str(python), "pytorch", "", "", 0.0))
    environments = Environments(folder / "environments", SystemClock(), pythons=pythons)
    image = await environments.resolve("my/env")
    assert image is not None
    # What is tried here is the same for all toolkits; the model of these tests is written for this one.
    return replace(await environments.ensure(image, print), toolkit="sklearn")


async def test_model_runs_in_a_virtual_environment_of_another_python(engine: Bench, tmp_path: Path) -> None:
    other = other_python()
    if other is None:
        pytest.skip("there is no other Python here")
    python = make_venv(tmp_path / "venv", {}, other)
    put_package(tmp_path / "venv", "torch", "2.3.0", "__version__ = '2.3.0'")
    environment = await environment_of(python, tmp_path)
    instance = await engine.start(engine.model(OBEDIENT), environment=environment)
    await instance.is_ready()
    version = other.rpartition("python")[2]
    assert await instance.ask("sys.modules['torch'].__version__, '%d.%d' % sys.version_info[:2]") == (
        f"('2.3.0', '{version}')"
    )
    assert await instance.ask("sys.prefix") == repr(str(tmp_path / "venv"))


@needs_debians_torch
async def test_model_runs_in_debians_python_with_torch(engine: Bench, tmp_path: Path) -> None:
    environment = await environment_of(DEBIANS, tmp_path)
    assert environment.preload == ("numpy", "torch")
    instance = await engine.start(engine.model(OBEDIENT), environment=environment)
    await instance.is_ready()
    assert await instance.ask("sys.modules['torch'].ones(2, 2).sum().item()") == "4.0"


@pytest.mark.slow  # makes an environment
async def test_environment_that_an_instance_runs_is_not_removed(engine: Bench, tmp_path: Path) -> None:
    image = resolve("moorage/python")
    assert image is not None
    made = await Environments(tmp_path / "environments", SystemClock()).ensure(image, print)
    built = BuiltEnvironments(tmp_path / "environments")
    instance = await engine.start(engine.model(OBEDIENT), environment=replace(made, toolkit="sklearn"))
    await instance.is_ready()
    with pytest.raises(EnvironmentInUse, match="delete the endpoints that run it first"):
        built.remove([made.key])
    assert await instance.ask("sys.prefix") == repr(str(made.python.parents[1]))
    await instance.kill()
    await engine.zygotes.retire()
    assert built.remove([made.key]) == 1
