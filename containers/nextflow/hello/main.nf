// Run once while the image is built: the classes that it loads become the class-data archive.
// It does what most pipelines do (channels, operators, a process, a report), so that their classes are in it.
process greet {
    tag "$name"
    input: val name
    output: path 'greeting.txt'
    script: "echo hello $name > greeting.txt"
}

workflow {
    names = Channel.of('one', 'two').map { name -> name.toUpperCase() }
    greet(names).collectFile(name: 'greetings.txt', sort: true).view { file -> file.text.trim() }
}
