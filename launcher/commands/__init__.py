"""The launcher's commands, one file a group; launcher/cli.py assembles them."""
