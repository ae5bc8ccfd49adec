// The head prints params.lines numbered lines to its stdout.
params.lines = 20000

workflow {
    (1..(params.lines as int)).each { n -> println "line $n of ${params.lines}" }
}
