from tests.support.fixtures import deployment, environment_python, moorage, wine

__all__ = ["deployment", "environment_python", "moorage", "wine"]
