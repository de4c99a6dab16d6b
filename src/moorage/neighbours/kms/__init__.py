"""The KMS API over the key ring: symmetric keys, their aliases, and what is encrypted and decrypted with them.

What KMS has besides (asymmetric and HMAC keys, imported material, key stores, grants, several regions, rotation) is
refused by name. Start reading in ``app``.
"""
