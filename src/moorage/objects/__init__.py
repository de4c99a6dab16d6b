"""Objects at ``s3://bucket/key``: the interface, and the folder that keeps them.

May import ``kms``, ``aws`` and ``base``. Start reading in ``store`` (what a store promises), then ``folder`` (how it is
kept). The S3 API over it is ``neighbours.s3``.
"""
