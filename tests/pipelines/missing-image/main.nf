// A task whose container image does not exist.
process NOWHERE {
    container 'solorun/does-not-exist:0'
    script:
    """
    echo never
    """
}

workflow {
    NOWHERE()
}
