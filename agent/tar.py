"""`tarfile` as Python 3.12 has it. Debian 12 comes with 3.11.2, which cannot check what an archive would write."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tarfile  # the backport has no types of its own; they are these
else:
    from backports import tarfile

__all__ = ["tarfile"]
