// Everything that a cached task can depend on: files of the pipeline, a file and a folder of another task, its
// stdout and its environment. LAST waits until the file params.gate is there.
params.gate   = '/nowhere'
params.outdir = 'results'

process FILES {
    publishDir params.outdir
    tag "${sample.baseName}"
    input:
    path sample
    output:
    path "${sample.baseName} upper.txt"
    script:
    """
    tr a-z A-Z < '${sample}' > '${sample.baseName} upper.txt'
    """
}

process FOLDER {
    input:
    path 'in?.txt'
    output:
    path 'folder'
    script:
    """
    mkdir -p folder/deep
    cat in*.txt > folder/deep/all.txt
    ln -s deep/all.txt folder/link.txt
    """
}

process WORDS {
    input:
    path folder
    output:
    tuple stdout, env(COUNT)
    script:
    """
    COUNT=\$(wc -w < ${folder}/link.txt)
    cat ${folder}/deep/all.txt
    """
}

process LAST {
    publishDir params.outdir, mode: 'copy'
    input:
    tuple val(words), val(count)
    output:
    path 'last.txt'
    script:
    """
    until [ -e '${params.gate}' ]; do sleep 0.1; done
    printf '%s %s\\n' '${words.trim().replace('\n', ' ')}' '${count}' > last.txt
    """
}

workflow {
    samples = Channel.fromPath("${projectDir}/data/*.txt")
    LAST(WORDS(FOLDER(FILES(samples).toSortedList { it.name })))
}
