"""`make bundle`: the agent bundle of each processor, and Nextflow's container image for this computer's."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bundle.assembling import assemble, fetch_jars, save_image
from bundle.model import REPOSITORY, BundleError
from bundle.packages import own_arch
from launcher.catalog import NEXTFLOW_IMAGE, Arch


def main() -> None:
    """Make what is asked for, and say what it is."""
    parser = argparse.ArgumentParser(prog="make bundle", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=REPOSITORY / "build/bundle", help="where the archives go"
    )
    parser.add_argument("--arch", type=Arch, choices=list(Arch), action="append", help="this processor only")
    parser.add_argument(
        "--image",
        default=NEXTFLOW_IMAGE,
        help="the container image to keep; empty for none (default: %(default)s)",
    )
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="solorun-jars-") as kept:
            jars = fetch_jars(Path(kept, "jars"))
            for arch in options.arch or list(Arch):
                made = assemble(arch, jars, folder)
                print(f"agent for {arch}: {made.bytes / 1e6:.0f} MB, sha256 {made.sha256}", file=sys.stderr)
        if options.image:
            made = save_image(options.image, folder)
            print(
                f"{options.image} for {own_arch()}: {made.bytes / 1e6:.0f} MB, sha256 {made.sha256}",
                file=sys.stderr,
            )
    except BundleError as error:
        sys.exit(f"make bundle: {error}")
    print(f"in {folder}", file=sys.stderr)


if __name__ == "__main__":
    main()
