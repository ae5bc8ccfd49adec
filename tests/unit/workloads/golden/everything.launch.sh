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

# Sourced, so that Nextflow sees what it exports; `exit` in it must not pass for Nextflow's.
rm -f "$config/pre-run.failed"
trap 'code=$?; echo "$code" > "$config/pre-run.failed"; echo "solorun: the pre-run script ended with code $code" >&2
    [ "$code" -ne 0 ] || code=1; exit "$code"' EXIT
source "$config/pre-run.sh"
code=$?
[ "$code" -eq 0 ] || exit "$code"
set +eux
trap - EXIT

nextflow -log /scratch/run/logs/nextflow.log -config /scratch/run/config/base.config -config /scratch/run/config/compute-env.config -config /scratch/run/config/user.config run https://example.org/team/variants.git -name brave_run -ansi-log false -r v1.2 -main-script workflows/all.nf -profile docker,test -params-file /scratch/run/config/params.json -work-dir /scratch/run/work -with-trace /scratch/run/logs/trace.txt -with-report /scratch/run/logs/report.html -with-timeline /scratch/run/logs/timeline.html -stub-run -resume 0f9a4a5e-1111-4222-8333-123456789abc &
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

# What becomes of it does not change the run's status.
export NXF_UUID=0f9a4a5e-1111-4222-8333-123456789abc
export NXF_OUT_FILE=/scratch/run/spool/workload.log
export NXF_LOG_FILE=/scratch/run/logs/nextflow.log
export NXF_TML_FILE=/scratch/run/logs/timeline.html
export NXF_WORK=/scratch/run/work
export NXF_EXIT_STATUS="$status"
bash "$config/post-run.sh" || echo "solorun: the post-run script ended with code $?" >&2

exit "$status"
