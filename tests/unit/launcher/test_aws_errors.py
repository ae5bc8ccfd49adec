"""botocore's errors as sentences that a person can act on."""

from __future__ import annotations

from typing import Any

import pytest
from botocore import exceptions

from launcher.aws_errors import translated
from launcher.errors import (
    AccessDenied,
    AlreadyThere,
    CloudError,
    ExitCode,
    LauncherError,
    NotThere,
    Unreachable,
    UserError,
)
from tests.fakes.aws_clients import client_error

TABLE: list[tuple[Exception, type[LauncherError], tuple[str, ...]]] = [
    (
        exceptions.NoCredentialsError(),
        UserError,
        ("No AWS credentials", "aws sso login", "launcher local up"),
    ),
    (exceptions.ProfileNotFound(profile="x"), UserError, ("(x)", "list-profiles")),
    (exceptions.UnauthorizedSSOTokenError(), UserError, ("expired", "aws sso login")),
    (
        client_error("ExpiredToken", "PutObject", "The token has expired"),
        UserError,
        ("expired", "Sign in again"),
    ),
    (client_error("RequestExpired", "RunInstances"), UserError, ("expired",)),
    (client_error("InvalidAccessKeyId", "PutObject"), UserError, ("does not accept", "AWS_PROFILE")),
    (client_error("AuthFailure", "RunInstances"), UserError, ("does not accept",)),
    (client_error("AccessDenied", "PutObject", status=403), AccessDenied, ("s3:PutObject on the thing",)),
    (client_error("403", "HeadBucket", "Forbidden", 403), AccessDenied, ("s3:ListBucket on the thing",)),
    (
        client_error(
            "AccessDeniedException",
            "GetLogEvents",
            "User: arn:aws:iam::1:user/a is not authorized to perform: logs:GetLogEvents on resource: arn:aws:logs:x "
            "because no identity-based policy allows it",
        ),
        AccessDenied,
        ("logs:GetLogEvents on arn:aws:logs:x",),
    ),
    (
        client_error(
            "UnauthorizedOperation",
            "RunInstances",
            "You are not authorized to perform this operation. User: a is not authorized to perform: "
            "ec2:RunInstances on resource: arn:aws:ec2:x",
        ),
        AccessDenied,
        ("ec2:RunInstances on arn:aws:ec2:x",),
    ),
    (client_error("OptInRequired", "RunInstances"), UserError, ("not enabled",)),
    (client_error("404", "HeadBucket", "Not Found", 404), NotThere, ("bucket", "aws s3 mb")),
    (client_error("NoSuchBucket", "PutObject", status=404), NotThere, ("bucket",)),
    (client_error("NoSuchKey", "GetObject", status=404), NotThere, ("the thing does not exist",)),
    (client_error("PreconditionFailed", "PutObject", status=412), AlreadyThere, ("exists already",)),
    (client_error("ThrottlingException", "GetLogEvents"), CloudError, ("no more requests", "in a minute")),
    (client_error("RequestLimitExceeded", "RunInstances", status=503), CloudError, ("no more requests",)),
    (client_error("VcpuLimitExceeded", "RunInstances"), CloudError, ("no machine", "Service Quotas")),
    (client_error("InternalError", "PutObject", "oops", 500), CloudError, ("could not do it now", "oops")),
    (client_error("InvalidKeyPair.NotFound", "RunInstances", "no key k"), UserError, ("refused", "no key k")),
    (exceptions.EndpointConnectionError(endpoint_url="https://far"), Unreachable, ("https://far", "network")),
    (exceptions.ReadTimeoutError(endpoint_url="https://far"), Unreachable, ("https://far",)),
    (exceptions.ParamValidationError(report="Bad bucket"), UserError, ("not valid",)),
]


@pytest.mark.parametrize(("error", "kind", "words"), TABLE, ids=[repr(row[0])[:60] for row in TABLE])
def test_every_error_says_what_and_what_next(
    error: Exception, kind: type[LauncherError], words: tuple[str, ...]
) -> None:
    """The launcher's own error, with the action, the resource and a way on."""
    services = {"GetLogEvents": "logs", "RunInstances": "ec2"}
    service = services.get(getattr(error, "operation_name", ""), "s3")
    with pytest.raises(LauncherError) as caught, translated(service, "the thing"):
        raise error
    assert type(caught.value) is kind or isinstance(caught.value, kind)
    said = f"{caught.value.message} {caught.value.hint}"
    for word in words:
        assert word in said
    wanted = ExitCode.CLOUD if issubclass(kind, CloudError) else ExitCode.USER
    assert caught.value.exit_code is wanted


def test_the_local_cloud_is_asked_after_when_it_does_not_answer() -> None:
    """Its own address, and its own way on."""
    error: Any = exceptions.EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
    with pytest.raises(Unreachable) as caught, translated("s3", "x", endpoint="http://127.0.0.1:1"):
        raise error
    assert "launcher local status" in caught.value.hint


def test_other_errors_pass_as_they_are() -> None:
    """Only botocore's are translated: an error of ours must not look like one of AWS."""
    with pytest.raises(KeyError), translated("s3", "x"):
        raise KeyError("x")
