"""The control plane: the SageMaker API, and the loops that make what it was told come true.

Start reading in ``pipeline`` (what happens to a request, in order) and in ``reconcile`` (what happens to an endpoint,
again and again). ``operations`` holds one module a resource: rules, then one transaction, then the answer. ``rules``
and ``planning`` are pure. Of the engine it knows the contract and the names of built-in images; it never waits for
an instance in a request, and serving never waits for it.
"""
