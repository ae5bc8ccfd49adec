"""Makes a release of the machine image: build, prove, copy to all regions, write the notes, publish, retire old ones.

`story.py` tells it top to bottom; `plan.py` says beforehand what it would do. docs/machine-image.md is for its users.
"""
