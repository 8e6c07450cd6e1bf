from serve.cli.commands import main

main(prog_name="serve")
