// A task that writes params.megabytes into its work dir, one a step, then sleeps.
params.megabytes = 64
params.seconds   = 60

process FILL {
    script:
    """
    for n in \$(seq ${params.megabytes}); do
        head -c 1000000 /dev/zero >> filler
    done
    sleep ${params.seconds}
    """
}

workflow {
    FILL()
}
