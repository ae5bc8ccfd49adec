// A task that asks for more than any machine has.
process TOO_BIG {
    cpus 1000
    memory '10 TB'
    script:
    """
    echo never
    """
}

workflow {
    TOO_BIG()
}
