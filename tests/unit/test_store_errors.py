"""What S3 answers becomes an error that a person can act on."""

import pytest
from obstore.exceptions import (
    AlreadyExistsError,
    GenericError,
    PermissionDeniedError,
    UnauthenticatedError,
)

from agent.errors import KeyMissing, StoreError
from agent.store_errors import Action, Place, code_of, is_transient, translate

PLACE = Place("bucket", "runs/1/status.json", "eu-west-1")


def answer(status: int, code: str) -> str:
    return (
        f"Error performing PUT https://s3.eu-west-1.amazonaws.com/bucket/key in 3ms - Server returned non-2xx "
        f"status code: {status} : <Error><Code>{code}</Code><Message>m</Message></Error>\n\nDebug source:\n…"
    )


@pytest.mark.parametrize(
    ("error", "action", "words"),
    [
        (
            PermissionDeniedError(answer(403, "AccessDenied")),
            Action.WRITE,
            [
                "write s3://bucket/runs/1/status.json",
                "s3:PutObject on arn:aws:s3:::bucket/runs/1/status.json",
            ],
        ),
        (PermissionDeniedError(answer(403, "AccessDenied")), Action.READ, ["s3:GetObject", "s3:ListBucket"]),
        (
            PermissionDeniedError(answer(403, "AccessDenied")),
            Action.LIST,
            ["s3:ListBucket on arn:aws:s3:::bucket;"],
        ),
        (PermissionDeniedError(answer(403, "InvalidAccessKeyId")), Action.READ, ["credentials are wrong"]),
        (PermissionDeniedError(answer(403, "RequestTimeTooSkewed")), Action.READ, ["clock is wrong"]),
        (
            PermissionDeniedError("AccessDenied: not authorized to perform: kms:GenerateDataKey"),
            Action.WRITE,
            ["kms:GenerateDataKey"],
        ),
        (UnauthenticatedError(answer(401, "")), Action.READ, ["credentials are not valid"]),
        (
            FileNotFoundError(answer(404, "NoSuchBucket")),
            Action.WRITE,
            ["bucket does not exist", "Create bucket in eu-west-1"],
        ),
        (
            GenericError("Received redirect without LOCATION, this normally indicates …"),
            Action.READ,
            ["not in eu-west-1"],
        ),
        (
            GenericError("Error performing PUT http://169.254.169.254/latest/api/token in 5s - HTTP error"),
            Action.READ,
            ["metadata service", "instance profile"],
        ),
        (GenericError(answer(503, "SlowDown")), Action.WRITE, ["S3 answered 503 SlowDown", "try again"]),
        (
            GenericError("Error performing GET https://x in 5s - HTTP error: error sending request"),
            Action.READ,
            ["could not be reached", "route to S3"],
        ),
        (ValueError("Could not parse path"), Action.WRITE, ["cannot hold this key"]),
    ],
)
def test_message_names_action_object_cause_and_next_step(
    error: Exception, action: Action, words: list[str]
) -> None:
    """Every refusal of S3 is told with the action, the object, the likely cause and what to do."""
    message = str(translate(error, action, PLACE))
    assert message.startswith(f"cannot {action.verb} s3://bucket/runs/1/status.json: ")
    assert [word for word in words if word not in message] == []
    assert "Debug source" not in message


def test_missing_object_is_key_missing() -> None:
    """A missing object is KeyMissing; a missing bucket is not."""
    assert isinstance(translate(FileNotFoundError(answer(404, "NoSuchKey")), Action.READ, PLACE), KeyMissing)
    missing_bucket = translate(FileNotFoundError(answer(404, "NoSuchBucket")), Action.READ, PLACE)
    assert not isinstance(missing_bucket, KeyMissing)


def test_partition_follows_the_region() -> None:
    """ARNs in messages are those of the region's own partition."""
    assert Place("b", "k", "cn-north-1").bucket_arn == "arn:aws-cn:s3:::b"
    assert Place("b", "k", "us-gov-west-1").bucket_arn == "arn:aws-us-gov:s3:::b"
    assert Place("b", "k", "us-west-2").bucket_arn == "arn:aws:s3:::b"


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (GenericError("HTTP error: error sending request"), True),
        (GenericError(answer(500, "InternalError")), True),
        (GenericError(answer(503, "SlowDown")), True),
        (GenericError(answer(400, "RequestTimeout")), True),
        (GenericError(answer(400, "ExpiredToken")), True),
        (GenericError(answer(429, "")), True),
        (FileNotFoundError(answer(404, "NoSuchUpload")), True),
        (FileNotFoundError(answer(404, "NoSuchKey")), False),
        (GenericError(answer(400, "InvalidBucketName")), False),
        (GenericError("Received redirect without LOCATION"), False),
        (PermissionDeniedError(answer(403, "AccessDenied")), False),
        (AlreadyExistsError(answer(412, "PreconditionFailed")), False),
        (StoreError("told already"), False),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error: Exception, transient: bool) -> None:
    """Network errors, 5xx, throttling and stale tokens are tried again; refusals are not."""
    assert is_transient(error) is transient


def test_code_is_found_in_the_answer() -> None:
    """S3's own code is read out of obstore's message."""
    assert code_of(GenericError(answer(503, "SlowDown"))) == "SlowDown"
    assert code_of(GenericError("connection refused")) == ""
