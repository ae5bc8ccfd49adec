"""`run-agent doctor`: which requirements of a machine that executes runs are met, and what to do about the others.

Looking (looking/) is apart from judging (judging/, pure). It never changes the machine: no container, no file, no
object in S3; and every look has a deadline, so it never hangs either.
"""
