"""Temporary credentials: GetCallerIdentity, AssumeRole, GetSessionToken as STS answers them.

Moorage keeps no roles: any role of the caller's own account can be assumed by who is allowed ``sts:AssumeRole`` on it,
and a session never may more than who began it (docs/design/identity.md). Start reading in ``app``.
"""
