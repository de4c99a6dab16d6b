"""Fetches images from registries by the distribution API (https://github.com/opencontainers/distribution-spec)."""
