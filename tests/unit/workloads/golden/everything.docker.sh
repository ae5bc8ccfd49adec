#!/bin/sh
# Docker's client; containers that are started through it belong to the run.
client=/scratch/run/config/bin/docker-client
case "${1:-} ${2:-}" in
"container run" | "container create") verb=$2; shift 2 ;;
"run "* | "create "*) verb=$1; shift ;;
*) exec "$client" "$@" ;;
esac
export LINES='one
two '"'"'x'"'"'
'
exec "$client" "$verb" --label "solorun.work_dir=${NXF_TASK_WORKDIR:-}" --log-driver none --label solorun.run=20260102t030405-abc123 --label solorun.role=task --label solorun.instance=i-0123 --env-file /scratch/run/config/task.env --env LINES "$@"
