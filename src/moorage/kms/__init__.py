"""The key ring: keys that data is encrypted with, and what they seal.

Synchronous, in files below the data folder, so that each process of the installation uses it alone. May import ``aws``
and ``base``. Start reading in ``ring`` (what there is to ask for), then ``keyfiles`` (how keys lie on the disk). The
KMS API over it is ``neighbours.kms``.
"""
