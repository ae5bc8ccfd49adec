// A task that does not end when it is asked to: it traps TERM for params.seconds.
params.seconds = 60

process STUBBORN {
    debug true
    script:
    """
    trap 'echo "not yet"' TERM
    echo "will not end on TERM"
    for n in \$(seq ${params.seconds}); do
        sleep 1 || true
    done
    """
}

workflow {
    STUBBORN()
}
