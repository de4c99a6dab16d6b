"""The condition keys that Moorage fills in, or rightly leaves out.

A key of one of our own services that nobody fills in would make a Deny that never denies: it is refused when the
policy is made. Keys of other services come with other services' requests only, here as on AWS.
"""

_KNOWN = frozenset(
    {
        "aws:currenttime",
        "aws:epochtime",
        "aws:multifactorauthpresent",
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principalisawsservice",
        "aws:principaltype",
        "aws:requestedregion",
        "aws:resourceaccount",
        "aws:securetransport",
        "aws:sourceip",
        "aws:tagkeys",
        "aws:tokenissuetime",
        "aws:userid",
        "aws:username",
        "aws:viaawsservice",
        "kms:calleraccount",
        "kms:encryptioncontextkeys",
        "kms:requestalias",
        "kms:viaservice",
        "s3:delimiter",
        "s3:max-keys",
        "s3:prefix",
        "sagemaker:acceleratortypes",
        "sagemaker:instancetypes",
        "sagemaker:modelarn",
        "sagemaker:networkisolation",
        "sagemaker:serverlessmaxconcurrency",
        "sagemaker:serverlessmemorysize",
        "sagemaker:taggingaction",
        "sagemaker:targetcontainerhostname",
        "sagemaker:targetmodel",
        "sagemaker:volumekmskey",
        "sagemaker:vpcsecuritygroupids",
        "sagemaker:vpcsubnets",
        "sts:externalid",
        "sts:rolesessionname",
    }
)
_FAMILIES = ("aws:requesttag/", "aws:resourcetag/", "kms:encryptioncontext:", "sagemaker:resourcetag/")
_OWN_SERVICES = frozenset({"aws", "kms", "logs", "s3", "sagemaker", "sts"})


def is_missing(key: str) -> bool:
    """Say whether a key is one that Moorage should know and does not."""
    folded = key.lower()
    ours = folded.partition(":")[0] in _OWN_SERVICES
    return ours and folded not in _KNOWN and not folded.startswith(_FAMILIES)
