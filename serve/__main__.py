from serve.cli import main

main(prog_name="serve")
