"""A boto3 session for the local cloud, which the person's own AWS set-up has no say in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import boto3


def own_session(access_key: str, secret_key: str, region: str) -> boto3.Session:
    """A session with these keys: the AWS SDK's variables and the AWS command line's files are not looked at.

    A profile that is gone, a file that cannot be read, FIPS endpoints: each would be an error of every client.
    Proxies of the environment are a matter of each client: it needs `Config(proxies={})`.
    """
    # imported here: 120 ms that --help does without
    import boto3
    from botocore.session import Session

    variables: dict[str, tuple[Any, ...]] = {
        # key in the files, variables of the environment, default, type
        name: (None, None, *variable[2:])
        for name, variable in Session.SESSION_VARIABLES.items()
    }
    for file in ("config_file", "credentials_file"):
        variables[file] = (None, None, os.devnull, None)
    return boto3.Session(
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=region,
        botocore_session=Session(session_vars=variables),
    )
