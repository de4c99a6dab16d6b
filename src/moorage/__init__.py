"""Moorage: model hosting with the Amazon SageMaker Hosting API that you run yourself.

Start reading in ``docs/design/processes.md``: which processes there are and what they say to each other.
"""

__version__ = "0.1.0"
