// From reads to variants on the genome of phage lambda.
//
// Each sample is a copy of the genome with variants planted in it, and reads simulated from that copy. The
// pipeline aligns the reads, calls variants, and says how many of the planted ones it found: the truth is known.

params.samples = 3
params.depth   = 40
params.seed    = 11
params.genome  = null   // FASTA, in this folder or at an address; null: phage lambda, from the container image
params.outdir  = 'results'

process GENOME {
    input:
    path fasta, stageAs: 'given/*'   // nothing: the one in the container image
    output:
    path 'genome.fa'
    script:
    """
    cp ${fasta ?: '/opt/genomes/lambda.fa'} genome.fa
    """
}

process INDEX {
    input:
    path genome
    output:
    tuple path(genome), path("${genome}.*")
    script:
    """
    samtools faidx $genome
    bwa index $genome
    """
}

process SIMULATE {
    tag "$sample"
    publishDir "${params.outdir}/truth", pattern: '*.truth.tsv', mode: 'copy'
    input:
    tuple val(sample), val(seed), path(genome)
    output:
    tuple val(sample), path("${sample}_1.fq.gz"), path("${sample}_2.fq.gz"), emit: reads
    tuple val(sample), path("${sample}.truth.tsv"), emit: truth
    script:
    // -h: one haplotype, as a phage has; -r, -R: one base in 500 differs, one difference in ten is an indel
    """
    bases=\$(grep -v '^>' $genome | tr -d '\\n' | wc -c)
    wgsim -S $seed -h -r 0.002 -R 0.1 -e 0.005 -1 100 -2 100 -N \$(( bases * ${params.depth} / 200 )) \\
        $genome ${sample}_1.fq ${sample}_2.fq > planted.txt
    gzip ${sample}_1.fq ${sample}_2.fq
    # wgsim: chromosome, position, reference, alternative, strand; '-' stands for nothing
    { printf 'chrom\\tpos\\tref\\talt\\n'; cut -f 1-4 planted.txt; } > ${sample}.truth.tsv
    """
}

process ALIGN {
    tag "$sample"
    input:
    tuple val(sample), path(reads_1), path(reads_2), path(genome), path(index)
    output:
    tuple val(sample), path("${sample}.bam"), path("${sample}.bam.bai")
    script:
    """
    bwa mem -t ${task.cpus} -R '@RG\\tID:$sample\\tSM:$sample' $genome $reads_1 $reads_2 | samtools sort -o ${sample}.bam -
    samtools index ${sample}.bam
    """
}

process COVERAGE {
    tag "$sample"
    publishDir "${params.outdir}/coverage", mode: 'copy'
    input:
    tuple val(sample), path(bam), path(bai)
    output:
    tuple val(sample), path("${sample}.coverage.tsv")
    script:
    // mean depth in windows of 500 bases
    """
    samtools depth -a $bam \\
        | awk -v OFS='\\t' '{ w = int((\$2 - 1) / 500); sum[w] += \$3; n[w]++ }
                           END { for (w = 0; w in n; w++) print w * 500 + 1, sum[w] / n[w] }' > ${sample}.coverage.tsv
    """
}

process CALL {
    tag "$sample"
    publishDir "${params.outdir}/variants", mode: 'copy'
    input:
    tuple val(sample), path(bam), path(bai), path(genome), path(index)
    output:
    tuple val(sample), path("${sample}.vcf.gz"), path("${sample}.vcf.gz.tbi")
    script:
    """
    bcftools mpileup -f $genome -q 20 -Q 20 -d 1000 $bam \\
        | bcftools call --ploidy 1 -mv \\
        | bcftools norm -f $genome \\
        | bcftools view -i 'QUAL>=20' -Oz -o ${sample}.vcf.gz
    bcftools index -t ${sample}.vcf.gz
    """
}

process COMPARE {
    tag "$sample"
    input:
    tuple val(sample), path(truth), path(vcf), path(tbi), path(genome)
    output:
    tuple val(sample), path("${sample}.compared.tsv")
    script:
    """
    bcftools query -f '%CHROM\\t%POS\\t%REF\\t%ALT\\t%QUAL\\n' $vcf > called.tsv
    compare.py $sample $genome $truth called.tsv > ${sample}.compared.tsv
    """
}

process REPORT {
    publishDir params.outdir, mode: 'copy'
    input:
    path genome
    path compared
    path coverage
    output:
    path 'variants.tsv'
    path 'summary.tsv'
    path 'report.html'
    script:
    """
    report.py --genome $genome --compared $compared --coverage $coverage
    """
}

workflow {
    samples = Channel.of(1..(params.samples as int)).map { n -> tuple("sample_$n", (params.seed as int) + n) }

    // a name without an address is that of a file beside this one
    where = params.genome ==~ '(/|\\w+:).*' ? params.genome : "$projectDir/${params.genome}"
    genome = GENOME(params.genome ? file(where, checkIfExists: true) : [])
    index = INDEX(genome)
    SIMULATE(samples.combine(genome))
    aligned = ALIGN(SIMULATE.out.reads.combine(index))
    coverage = COVERAGE(aligned)
    called = CALL(aligned.combine(index))
    compared = COMPARE(SIMULATE.out.truth.join(called).combine(genome))
    REPORT(genome, compared.map { it[1] }.collect(sort: { it.name }), coverage.map { it[1] }.collect(sort: { it.name }))
}
