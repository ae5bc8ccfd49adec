// Three quick tasks; each leaves a file in params.outdir.
params.outdir = 'results'

process HELLO {
    tag "$name"
    publishDir params.outdir, mode: 'copy'
    input:
    val name
    output:
    path "${name}.txt"
    script:
    """
    echo "hello $name" | tee ${name}.txt
    """
}

workflow {
    HELLO(Channel.of('one', 'two', 'three')).view { file -> "made ${file.name}" }
}
