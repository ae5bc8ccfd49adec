#!/bin/bash
# The first process of the head container.
config=/scratch/run/config
mkdir -p "$config/bin"
ln -sf "$(command -v docker || echo /usr/bin/docker)" "$config/bin/docker-client"
cp "$config/docker-with-labels" "$config/bin/docker"
chmod 755 "$config/bin/docker"
export PATH="$config/bin:$PATH"
# Process 1 gets no signal that it does not ask for.
trap 'exit 143' TERM

nextflow -log /scratch/run/logs/nextflow.log -config /scratch/run/config/base.config run /scratch/run/pipeline -name brave_run -ansi-log false -work-dir s3://bucket/team/work -with-trace /scratch/run/logs/trace.txt -with-report /scratch/run/logs/report.html -with-timeline /scratch/run/logs/timeline.html &
head=$!
told=
trap 'told=yes; kill -TERM "$head"' TERM
wait "$head"
status=$?
# A wait that the signal ended is no exit: Nextflow is still stopping its tasks.
while [ -n "$told" ]; do
    told=
    wait "$head"
    again=$?
    [ "$again" -eq 127 ] || status=$again  # 127: it had been waited for
done
trap - TERM
touch "$config/nextflow.ended" 2> /dev/null

exit "$status"
