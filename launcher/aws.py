"""The clients for one compute environment: in AWS, or in the local cloud; only endpoint and credentials
differ."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from launcher.aws_errors import no_credentials, translated
from launcher.compute_envs import ComputeEnv
from launcher.errors import LauncherError, UserError

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_sts import STSClient


C = TypeVar("C")


class LocalCloud(Protocol):
    """How a running local cloud is reached."""

    @property
    def endpoint_url(self) -> str:
        """Where its AWS API answers."""

    @property
    def access_key(self) -> str:
        """The access key id that it takes; no secret."""

    @property
    def secret_key(self) -> str:
        """Its counterpart."""


def running_local_cloud(environ: Mapping[str, str]) -> LocalCloud | None:
    """The local cloud of this user, or None while it is down."""
    # imported here: AWS alone does without
    from launcher.localcloud.state import current, default_folder

    return current(default_folder(environ))


@dataclass(frozen=True)
class Endpoint:
    """Where the clients go and as whom, when that is not the AWS SDK's own choice."""

    url: str
    access_key: str
    secret_key: str


class Aws:
    """Clients, made when first used. They are thread-safe; making them is not, so that is locked."""

    def __init__(self, ce: ComputeEnv, local: Endpoint | None) -> None:
        self.ce = ce
        self.local = local
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> str | None:
        """The local cloud's address; None in AWS."""
        return self.local.url if self.local else None

    @cached_property
    def s3(self) -> S3Client:
        """S3."""
        return self._make(lambda session: session.client("s3", **self._options))

    @cached_property
    def s3_links(self) -> S3Client:
        """S3, for links that others use: signed for the bucket's region, with nothing that their user must add."""
        from botocore.config import Config

        links = Config(
            signature_version="s3v4",
            request_checksum_calculation="when_required",
            # for every bucket name the region's own address, and a certificate that fits
            s3={"addressing_style": "path", "us_east_1_regional_endpoint": "regional"},
        )
        options = {**self._options, "config": self._options["config"].merge(links)}
        return self._make(lambda session: session.client("s3", **options))

    @cached_property
    def ec2(self) -> EC2Client:
        """EC2."""
        return self._make(lambda session: session.client("ec2", **self._options))

    @cached_property
    def ssm(self) -> SSMClient:
        """Systems Manager: parameters."""
        return self._make(lambda session: session.client("ssm", **self._options))

    @cached_property
    def sts(self) -> STSClient:
        """Who am I."""
        return self._make(lambda session: session.client("sts", **self._options))

    @cached_property
    def logs(self) -> CloudWatchLogsClient:
        """CloudWatch Logs."""
        return self._make(lambda session: session.client("logs", **self._options))

    def owner(self, fallback: str) -> str:
        """Who submits, as AWS knows them; `fallback` in the local cloud, or where AWS does not tell.

        Raises:
            UserError: there are no credentials, or they are not accepted.
        """
        if self.local is not None:
            return fallback
        with translated("sts", "the caller's identity"):
            from botocore.exceptions import ClientError

            try:
                return self.sts.get_caller_identity()["Arn"]
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in ("AccessDenied", "AccessDeniedException"):
                    return fallback
                raise

    @cached_property
    def _options(self) -> dict[str, Any]:
        from botocore.config import Config

        config = Config(
            retries={"mode": "standard", "total_max_attempts": 2 if self.local else 5},
            connect_timeout=10,
            read_timeout=60,
            s3={"addressing_style": "path"} if self.local else {},
            user_agent_extra="solorun",
            # downloads use eight threads, each with ranges of its own
            max_pool_connections=32,
            # none for the local cloud: a proxy would look for it on a computer of its own
            proxies={} if self.local else None,
        )
        return {"region_name": self.ce.region, "endpoint_url": self.endpoint, "config": config}

    def _make(self, make: Callable[[boto3.Session], C]) -> C:
        with translated("sts", "the AWS configuration"), self._lock:
            return make(self._session)

    @cached_property
    def _session(self) -> boto3.Session:
        # imported here: 120 ms that --help does without
        import boto3

        if self.local is not None:
            from launcher.localcloud.aws_session import own_session

            return own_session(self.local.access_key, self.local.secret_key, self.ce.region)
        with translated("sts", "the AWS profile"):
            session = boto3.Session(profile_name=self.ce.profile)
            if session.get_credentials() is None:
                raise no_credentials()
        return session


def connect(ce: ComputeEnv, local_cloud: Callable[[], LocalCloud | None]) -> Aws:
    """The clients for a compute environment. No request goes out yet.

    Raises:
        UserError: the compute environment is in the local cloud, and that is not up.
    """
    if not ce.local:
        return Aws(ce, None)
    state = local_cloud()
    if state is None:
        raise local_cloud_down(ce)
    return Aws(ce, Endpoint(state.endpoint_url, state.access_key, state.secret_key))


def local_cloud_down(ce: ComputeEnv) -> LauncherError:
    """The error for a local compute environment without its cloud."""
    return UserError(
        f"The local cloud is not up; the compute environment {ce.name} is in it", hint="launcher local up"
    )
