"""The list of a prefix's objects that count (ManifestS3Uri).

By the API's model it is "a CSV file that stores the artifact locations", of which nothing more is documented.
Each record has one value: the location of an object as an ``s3://`` URI, which must be below the prefix, or what comes
behind the prefix in its key. Records of more values, and a list of nothing, are refused.
"""

import csv
import io

from moorage.engine.sources.faults import SourceRefused, shown
from moorage.objects.faults import UnusableUri
from moorage.objects.places import S3Place, parse_place

MOST_BYTES = 64 * 2**20


def keys_of(content: bytes, prefix: S3Place) -> list[str]:
    """Give the keys that a manifest lists, each once, in its order; raises SourceRefused."""
    keys: dict[str, None] = {}
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        for record in reader:
            if len(record) > 1:
                raise SourceRefused(
                    f"The manifest's line {reader.line_num} has {len(record)} values: it must be the location of one "
                    "object."
                )
            if record and record[0].strip():
                keys[_key_of(record[0].strip(), prefix)] = None
    except (UnicodeDecodeError, csv.Error) as fault:
        raise SourceRefused(f"The manifest is not a CSV file in UTF-8: {fault}.") from fault
    if not keys:
        raise SourceRefused("The manifest lists no objects.")
    return list(keys)


def _key_of(location: str, prefix: S3Place) -> str:
    if "://" not in location:
        return prefix.key + location
    try:
        place = parse_place(location)
    except UnusableUri as fault:
        raise SourceRefused(f"The manifest lists what is no object's location: {fault}.") from fault
    if not isinstance(place, S3Place) or place.bucket != prefix.bucket or not place.key.startswith(prefix.key):
        raise SourceRefused(f"The manifest lists {shown(location)}, which is not below {shown(prefix.uri)}.")
    return place.key
