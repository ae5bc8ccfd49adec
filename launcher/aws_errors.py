"""botocore's errors become the launcher's: what failed, the likely cause, the next step. Nothing above sees a
ClientError."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from launcher.errors import (
    AccessDenied,
    AlreadyThere,
    CapacityUnavailable,
    CloudError,
    LauncherError,
    NotThere,
    Unreachable,
    UserError,
)

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError

CAPACITY_CODES: Final = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InsufficientCapacityOnHost",
        "InsufficientHostCapacity",
        "InsufficientReservedInstanceCapacity",
        "InsufficientFreeAddressesInSubnet",
        "UnfulfillableCapacity",
        "Unsupported",  # this instance type is not offered in this zone
        "SpotMaxPriceTooLow",
        "MaxSpotInstanceCountExceeded",
        "MaxSpotFleetRequestCountExceeded",
        "TargetCapacityLimitExceededException",
        "ResourceLimitExceeded",
        "VcpuLimitExceeded",
        "InstanceLimitExceeded",
    }
)
_QUOTA_CODES: Final = frozenset(
    {
        "MaxSpotInstanceCountExceeded",
        "MaxSpotFleetRequestCountExceeded",
        "ResourceLimitExceeded",
        "VcpuLimitExceeded",
        "InstanceLimitExceeded",
    }
)
_EXPIRED: Final = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "TokenRefreshRequired",
        "InvalidGrantException",
    }
)
_NOT_ACCEPTED: Final = frozenset(
    {
        "InvalidClientTokenId",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "AuthFailure",
        "UnrecognizedClientException",
        "IncompleteSignature",
        "MissingAuthenticationToken",
    }
)
_DENIED: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
        "Forbidden",
        "AllAccessDisabled",
        "403",
    }
)
_THROTTLED: Final = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "ProvisionedThroughputExceededException",
        "SlowDown",
        "BandwidthLimitExceeded",
    }
)
_MISSING: Final = frozenset(
    {
        "404",
        "NoSuchKey",
        "NotFound",
        "ResourceNotFoundException",
        "ParameterNotFound",
        "InvalidInstanceID.NotFound",
    }
)
_PRECONDITION: Final = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})
_ACTIONS: Final = {
    "HeadBucket": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "CopyObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "DeleteObjects": "s3:DeleteObject",
}
"""Where the IAM action is not named like the operation."""
_NOT_AUTHORIZED: Final = re.compile(r"not authorized to perform: (\S+)(?: on resource: (\S+))?")


@contextmanager
def translated(service: str, resource: str, *, endpoint: str | None = None) -> Iterator[None]:
    """Calls of botocore in here raise the launcher's errors. `resource` is what they are about."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise of_answer(error, service, resource) from error
    except BotoCoreError as error:
        raise of_no_answer(error, resource, endpoint) from error


def of_answer(error: ClientError, service: str, resource: str) -> LauncherError:
    """The launcher's error for what AWS answered."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    said = str(error.response.get("Error", {}).get("Message", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) or 0)
    operation = error.operation_name
    detail = f"{said} ({code})" if said else code
    if code in _EXPIRED:
        return _expired(detail)
    if code in _NOT_ACCEPTED:
        return UserError(
            f"AWS does not accept these credentials: {detail}",
            hint="Look at `aws sts get-caller-identity`; AWS_PROFILE or the compute environment's profile may "
            "name the wrong one, or the computer's clock may be wrong",
        )
    if code in _DENIED:
        return _denied(service, operation, resource, said)
    if code == "OptInRequired":
        return UserError(
            f"This account has not enabled what was asked for: {detail}",
            hint="Enable the region or the service in the AWS console, under Account",
        )
    if code == "NoSuchBucket" or (operation == "HeadBucket" and code in _MISSING):
        return NotThere(
            f"The bucket of {resource} does not exist",
            hint="Check its name, or make it first: aws s3 mb s3://BUCKET --region REGION",
        )
    if operation == "RunInstances" and (code in CAPACITY_CODES):
        return _no_capacity(code, detail)
    if code in _THROTTLED or status == 429:
        return CloudError(
            f"AWS takes no more requests for now ({service}:{operation}): {detail}",
            hint="Try again in a minute",
        )
    if code in _PRECONDITION:
        return AlreadyThere(f"{resource} exists already")
    if code in _MISSING or (operation == "DescribeImages" and code.startswith("InvalidAMIID")):
        return NotThere(f"{resource} does not exist")
    if status >= 500:
        return CloudError(
            f"AWS could not do it now ({service}:{operation} on {resource}): {detail}", hint="Try again later"
        )
    return UserError(f"AWS refused {service}:{operation} on {resource}: {detail}")


def of_no_answer(error: BotoCoreError, resource: str, endpoint: str | None) -> LauncherError:
    """The launcher's error where no answer came from AWS, or no request went out."""
    from botocore import exceptions

    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return no_credentials(str(error) if isinstance(error, exceptions.PartialCredentialsError) else "")
    if isinstance(
        error,
        exceptions.TokenRetrievalError
        | exceptions.UnauthorizedSSOTokenError
        | exceptions.SSOTokenLoadError
        | exceptions.CredentialRetrievalError,
    ):
        return _expired(str(error))
    if isinstance(
        error, exceptions.ProfileNotFound | exceptions.ConfigNotFound | exceptions.ConfigParseError
    ):
        return UserError(str(error), hint="Look at `aws configure list-profiles`")
    if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError):
        where = endpoint or str(_field(error, "endpoint_url") or "AWS")
        return Unreachable(
            f"No answer from {where}: {error}",
            hint="Is the local cloud up? launcher local status"
            if endpoint
            else "Check the network and any proxy; a mistyped AWS_ENDPOINT_URL has the same effect",
        )
    if isinstance(error, exceptions.ParamValidationError):
        return UserError(
            f"The request about {resource} is not valid", problems=tuple(str(error).splitlines())
        )
    return CloudError(f"The request about {resource} failed: {error}")


def no_credentials(detail: str = "") -> UserError:
    """The error for an operator whom AWS does not know."""
    return UserError(
        "No AWS credentials were found" + (f": {detail}" if detail else ""),
        hint="Sign in (aws sso login, or aws configure), or set AWS_PROFILE; to go on without an AWS account: "
        "launcher local up",
    )


def _expired(detail: str) -> UserError:
    return UserError(
        f"The AWS credentials have expired or cannot be renewed: {detail}",
        hint="Sign in again: aws sso login, or renew the access keys",
    )


def _denied(service: str, operation: str, resource: str, said: str) -> AccessDenied:
    named = _NOT_AUTHORIZED.search(said)
    action = named[1] if named else _ACTIONS.get(operation, f"{service}:{operation}")
    # EC2 names no resource in its message
    where = named[2] if named and named[2] else resource
    return AccessDenied(
        f"Access denied: {action} on {where}",
        hint=f"The policy of the identity that you use must allow {action} on it"
        + (f". AWS says: {said}" if said and not named else ""),
    )


def _no_capacity(code: str, detail: str) -> CapacityUnavailable:
    hint = (
        "Ask for a higher limit in the Service Quotas console, or end machines that still run"
        if code in _QUOTA_CODES
        else "Try again later, with another --instance-type, or with more subnets in the compute environment"
    )
    return CapacityUnavailable(f"EC2 has no machine of this type to give: {detail}", hint=hint)


def _field(error: BotoCoreError, name: str) -> Any:
    return getattr(error, "kwargs", {}).get(name)
