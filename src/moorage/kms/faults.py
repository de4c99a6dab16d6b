"""What a key ring refuses."""


class KeyUnusable(RuntimeError):
    """A key cannot be used, whatever the reason; its text is for people."""


class NoSuchKey(KeyUnusable):
    """No key has this id, ARN or alias (any more)."""


class KeyDisabled(KeyUnusable):
    """The key is there and has been switched off."""


class KeyPendingDeletion(KeyUnusable):
    """The key waits for its deletion."""


class KeyNotPendingDeletion(KeyUnusable):
    """The key's deletion is to be cancelled, and nobody has asked for it."""


class KeyManagedByService(KeyUnusable):
    """The key was made for a service: it can be used and not be changed."""


class NoSuchAlias(KeyUnusable):
    """There is no such alias."""


class AliasExists(KeyUnusable):
    """The alias is taken."""


class TooMany(KeyUnusable):
    """There are as many aliases of a key as there may be."""


class InvalidCiphertext(KeyUnusable):
    """It is no ciphertext of this ring, was changed, or was made with another encryption context."""


class RingUnusable(KeyUnusable):
    """No key can be used: the library, the wrapping key or the folder is missing."""


class LibraryMissing(RingUnusable):
    """There is nothing to encrypt with."""
