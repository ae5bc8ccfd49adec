"""What S3 answered, as an error that names the action, the object, the likely cause and the next step."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)

from agent.errors import KeyMissing, StoreError


@unique
class Action(Enum):
    """What was tried, with the permission that it needs."""

    READ = ("read", "s3:GetObject")
    WRITE = ("write", "s3:PutObject")
    LIST = ("list", "s3:ListBucket")
    COPY = ("copy", "s3:PutObject and s3:GetObject")

    def __init__(self, verb: str, permission: str) -> None:
        self.verb = verb
        self.permission = permission


class OutOfTime(StoreError):
    """The deadline passed before S3 had done it."""


class Refused(StoreError):
    """Bucket, credentials or permissions are wrong: every request like this one would be refused."""


@dataclass(frozen=True)
class Place:
    """A bucket and a key in it, and where they are: what an error message names."""

    bucket: str
    key: str
    region: str

    @property
    def uri(self) -> str:
        """`s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key}"

    @property
    def bucket_arn(self) -> str:
        """The bucket's ARN in its partition."""
        partition = {"cn": "aws-cn", "us-gov": "aws-us-gov"}
        name = next((arn for start, arn in partition.items() if self.region.startswith(f"{start}-")), "aws")
        return f"arn:{name}:s3:::{self.bucket}"


_CODE: Final = re.compile(r"<Code>([A-Za-z0-9]+)</Code>")
_STATUS: Final = re.compile(r"status code: (\d{3})")
_PASSING: Final = frozenset(
    {
        "BadDigest",
        "ExpiredToken",
        "IncompleteBody",
        "InvalidPart",
        "NoSuchUpload",
        "RequestTimeout",
        "TokenRefreshRequired",
    }
)
"""4xx that another attempt may not meet: the body was cut off, the token renewed, or a multipart upload was
completed by an attempt whose answer was lost."""
_PASSING_STATUS: Final = frozenset({"408", "409", "429"})
_NO_LOCATION: Final = "redirect without LOCATION"
_METADATA_PATHS: Final = ("/latest/api/token", "/security-credentials")


def code_of(error: BaseException) -> str:
    """S3's own error code (`NoSuchBucket`, `SlowDown`, …), or an empty string."""
    match = _CODE.search(str(error))
    return match[1] if match else ""


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed if sent again: network, 5xx, throttling, a stale token.

    A missing bucket, a refusal, and a failed condition stay what they are.
    """
    if not isinstance(error, BaseError | FileNotFoundError):
        return False
    code = code_of(error)
    if code in _PASSING:
        return True
    if isinstance(error, _FINAL) or _NO_LOCATION in str(error):
        return False
    status = _STATUS.search(str(error))
    return status is None or status[1][0] == "5" or status[1] in _PASSING_STATUS


_FINAL: Final = (
    AlreadyExistsError,
    FileNotFoundError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)


def translate(error: BaseException, action: Action, place: Place) -> StoreError:
    """The error as a StoreError (KeyMissing where the object is not there) that a person can act on."""
    if isinstance(error, StoreError):
        return error
    head = f"cannot {action.verb} {place.uri}: "
    if isinstance(error, FileNotFoundError) and code_of(error) != "NoSuchBucket":
        return KeyMissing(f"{head}there is no such object")
    refused = isinstance(error, PermissionDeniedError | UnauthenticatedError | FileNotFoundError)
    kind = Refused if refused or _NO_LOCATION in str(error) else StoreError
    return kind(head + _cause(error, action, place))


def _cause(error: BaseException, action: Action, place: Place) -> str:
    code, text = code_of(error), str(error)
    if code == "NoSuchBucket":
        return (
            f"the bucket does not exist. Create {place.bucket} in {place.region}, "
            "or use a compute environment whose work dir is in a bucket that exists"
        )
    if isinstance(error, PermissionDeniedError):
        return _refusal(code, text, action, place)
    if isinstance(error, UnauthenticatedError) or code in {"ExpiredToken", "InvalidToken"}:
        return f"the credentials are not valid or expired ({code or '401'}). Renew them, or check the instance profile"
    if code in {"PermanentRedirect", "AuthorizationHeaderMalformed"} or _NO_LOCATION in text:
        return (
            f"the bucket is not in {place.region}. "
            "Set the compute environment's region to the one its bucket is in"
        )
    if isinstance(error, ValueError):
        return f"S3 cannot hold this key ({_first_line(text)}). Rename the file"
    if any(path in text for path in _METADATA_PATHS):
        return (
            f"no credentials from the instance metadata service ({_first_line(text)}). "
            "Check that the instance has an instance profile and that its metadata service is on"
        )
    status = _STATUS.search(text)
    if status:
        return (
            f"S3 answered {status[1]}{f' {code}' if code else ''} to every attempt. "
            "Usually this passes: try again later"
        )
    return (
        f"S3 could not be reached ({_first_line(text)}). Check the subnet's route to S3 "
        "(internet gateway, NAT or S3 endpoint), the security group and the endpoint's address"
    )


def _refusal(code: str, text: str, action: Action, place: Place) -> str:
    if code in {"InvalidAccessKeyId", "SignatureDoesNotMatch"}:
        return f"the credentials are wrong ({code}). Check the access keys, or the instance profile"
    if code == "RequestTimeTooSkewed":
        return "the machine's clock is wrong (RequestTimeTooSkewed). Check that chronyd runs"
    if "kms:" in text:
        return (
            "access denied by the bucket's KMS key. Allow the instance role kms:GenerateDataKey and "
            "kms:Decrypt on that key"
        )
    target = place.bucket_arn if action is Action.LIST else f"{place.bucket_arn}/{place.key}"
    hint = f" (or the object is missing and s3:ListBucket on {place.bucket_arn}, which would tell so, too)"
    return (
        f"access denied. The instance role, or whose credentials are used, needs {action.permission} on {target}"
        f"{hint if action is Action.READ else ''}; look for a Deny in the bucket policy as well"
    )


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:300] if text.strip() else "no details"
