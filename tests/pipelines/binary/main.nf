// The head writes bytes that are no UTF-8 to its stdout, between two lines that are.
workflow {
    println 'before the bytes'
    def bytes = new byte[1024]
    new Random(7).nextBytes(bytes)
    System.out.write(bytes, 0, bytes.length)
    System.out.flush()
    println ''
    println 'after the bytes'
}
