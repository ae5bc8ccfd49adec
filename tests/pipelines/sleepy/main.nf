// One task that sleeps for params.seconds, and says when it starts and when it ends.
params.seconds = 60

process SLEEP {
    debug true
    script:
    """
    echo "sleeping for ${params.seconds} s"
    sleep ${params.seconds}
    echo "awake"
    """
}

workflow {
    SLEEP()
}
