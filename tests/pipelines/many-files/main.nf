// One task that makes params.files small files.
params.files  = 100
params.outdir = 'results'

process MAKE {
    publishDir params.outdir, mode: 'copy'
    output:
    path 'file-*.txt'
    script:
    """
    for n in \$(seq ${params.files}); do
        echo "file \$n" > file-\$n.txt
    done
    """
}

workflow {
    MAKE()
}
