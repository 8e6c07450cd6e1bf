from export.cli.commands import main

main(prog_name="export")
