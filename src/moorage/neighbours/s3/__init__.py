"""S3's REST API over an object store, path style.

``app`` holds the order of a request's life and the list of operations; ``request``, ``conditions`` and ``sigv2`` decide
purely; ``buckets``, ``objects``, ``lists`` and ``uploads`` are the operations.
"""
