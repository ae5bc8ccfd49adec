// A script that is none: the closing brace of the process is missing.
process BROKEN {
    script:
    """
    echo never
    """

workflow {
    BROKEN()
}
