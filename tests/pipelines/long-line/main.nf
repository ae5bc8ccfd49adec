// The head prints params.megabytes on one line, then a short one.
params.megabytes = 100

workflow {
    def million = 'abcdefghi ' * 100_000
    (1..(params.megabytes as int)).each { print million }
    println ''
    println 'after the long line'
}
