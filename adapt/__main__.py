from adapt.cli import main

main(prog_name="adapt")
