"""Multi-model containers: which models are loaded, where their files are, and what the container is told of them.

``shelf`` decides, without input or output. See docs/design/multi-model.md.
"""
