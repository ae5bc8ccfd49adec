// Two quick tasks, then one that ends only in a run that resumes another. The last one's output names both.
params.outdir = 'results'

process FIRST {
    output:
    path 'chain.txt'
    script:
    """
    echo first > chain.txt
    """
}

process SECOND {
    input:
    path 'before.txt'
    output:
    path 'chain.txt'
    script:
    """
    { cat before.txt; echo second; } > chain.txt
    """
}

process LAST {
    publishDir params.outdir, mode: 'copy'
    input:
    path 'before.txt'
    output:
    path 'last.txt'
    script:
    """
    ${workflow.resume ? '' : 'sleep 3600'}
    cat before.txt > last.txt
    """
}

workflow {
    LAST(SECOND(FIRST()))
}
