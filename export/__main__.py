from export.cli import main

main(prog_name="export")
