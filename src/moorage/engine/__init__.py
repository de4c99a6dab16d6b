"""Runs one instance's containers on this machine: artefacts, environments, images, sandbox, limits.

``contract`` is the door: what an instance is, what is reported of it and what an engine must do. The control plane
knows nothing else of this room. The engines are ``sandbox`` (bubblewrap) and ``process``; ``probe`` says what this
machine can do.
"""
