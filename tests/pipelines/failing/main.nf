// A task that fails with exit code 7 and a word on stderr.
process FAIL {
    tag 'the one'
    script:
    """
    echo "the reagent is used up" >&2
    exit 7
    """
}

workflow {
    FAIL()
}
