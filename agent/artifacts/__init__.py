"""Results to S3: a folder becomes objects, each checked, and whatever cannot go is named with its cause."""

from agent.artifacts.upload import UploadProgress, UploadReport, upload_tree

__all__ = ["UploadProgress", "UploadReport", "upload_tree"]
