// A task whose container image does not exist.
process NOWHERE {
    container '127.0.0.1:1/does-not-exist:0'
    script:
    """
    echo never
    """
}

workflow {
    NOWHERE()
}
