"""The launcher: starts, follows and stops runs from the operator's machine."""
