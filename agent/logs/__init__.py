"""From the workload's bytes on disk to CloudWatch Logs, losing nothing."""
