// Five tasks, one after the other, of params.seconds each. The last one's output names all before it.
params.seconds = 3
params.outdir  = 'results'

process FIRST {
    output:
    path 'chain.txt'
    script:
    """
    sleep ${params.seconds}
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
    sleep ${params.seconds}
    { cat before.txt; echo second; } > chain.txt
    """
}

process THIRD {
    input:
    path 'before.txt'
    output:
    path 'chain.txt'
    script:
    """
    sleep ${params.seconds}
    { cat before.txt; echo third; } > chain.txt
    """
}

process FOURTH {
    input:
    path 'before.txt'
    output:
    path 'chain.txt'
    script:
    """
    sleep ${params.seconds}
    { cat before.txt; echo fourth; } > chain.txt
    """
}

process FIFTH {
    publishDir params.outdir, mode: 'copy'
    input:
    path 'before.txt'
    output:
    path 'chain.txt'
    script:
    """
    sleep ${params.seconds}
    { cat before.txt; echo fifth; } > chain.txt
    """
}

workflow {
    FIFTH(FOURTH(THIRD(SECOND(FIRST()))))
}
