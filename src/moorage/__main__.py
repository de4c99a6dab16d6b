"""``python -m moorage``: the same as the command ``moorage``."""

from moorage.cli.main import main

main()
