"""The agent bundle: all that a machine needs whose image has no agent, in one archive a processor.

Python, the agent and what it depends on, and the systemd units, programs and limits of the Ansible roles, rendered
from the roles' own files. `make bundle` makes it; the launcher sends it to the work bucket.
"""
