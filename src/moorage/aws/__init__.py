"""What AWS clients speak: service models, constraints, protocols, errors, signatures, ARNs, paging. All pure.

The models are data: ``models/*.json`` is made from botocore's newest by ``scripts/models`` and never edited by hand.
Start reading in ``shapes``.
"""
