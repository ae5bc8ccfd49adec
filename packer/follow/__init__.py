"""Follows Amazon Linux 2023: hears of a new release, confirms it, makes ours, commits the pins.

`template.yml` sets it up in an AWS account; docs/machine-image.md says how.
"""
