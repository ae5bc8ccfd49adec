"""What goes wrong in a region, in words for the person who releases."""

from __future__ import annotations

from typing import Final

from botocore.exceptions import ClientError

from launcher.errors import LauncherError, UserError

_UNKNOWN_THERE: Final = frozenset({"AuthFailure", "UnrecognizedClientException", "OptInRequired"})
"""What EC2, SSM and others answer in a region that the account has not enabled. Wrong credentials get the same."""


def problem_of(error: LauncherError) -> str:
    """An error in one line."""
    return "; ".join(part for part in (error.message, *error.problems, error.hint) if part)


def code_of(error: LauncherError) -> str:
    """AWS's own name of an error; empty where it did not come from AWS."""
    cause = error.__cause__
    return str(cause.response.get("Error", {}).get("Code", "")) if isinstance(cause, ClientError) else ""


def account_is_unknown(error: LauncherError) -> bool:
    """Whether a region does not know the account: it is not enabled there, or the credentials are wrong everywhere."""
    return code_of(error) in _UNKNOWN_THERE


def in_region(error: LauncherError, region: str, otherwise: str = "") -> LauncherError:
    """The error as it is to be understood where AWS answers well in another region.

    Args:
        error: what was answered.
        region: where.
        otherwise: what can be done instead of enabling it; leaving the region out, where nothing is said.
    """
    if not account_is_unknown(error):
        return error
    return UserError(
        f"{region} is not enabled for this account (or does not accept these credentials)",
        hint="Enable it in the AWS console under Account, or "
        + (otherwise or f"leave it out: --without {region}"),
    )
