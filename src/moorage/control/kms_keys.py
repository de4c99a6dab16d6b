"""The keys that requests name: looked up in the key ring, so that a configuration has none that cannot be used."""

from collections.abc import Callable

from moorage.aws.errors import validation_exception
from moorage.kms import cipher
from moorage.kms.faults import KeyUnusable, LibraryMissing
from moorage.kms.records import Home
from moorage.kms.ring import KeyRing


def key_finder(ring: KeyRing) -> Callable[[str, str, str], str]:
    """Make the function that gives the ARN of an account's key of a region; it raises ValidationException."""

    def find(account: str, region: str, key: str) -> str:
        try:
            if not cipher.available():
                raise LibraryMissing("encryption needs the library cryptography: pip install 'moorage[kms]'.")
            found = ring.usable(key, Home(account, region))
        except KeyUnusable as fault:
            raise validation_exception(f"The KMS key {key} cannot be used: {fault}") from fault
        if found.home != Home(account, region):
            raise validation_exception(f"The KMS key {key} is not one of account {account} in {region}.")
        return found.arn

    return find
