"""The sample data that the project draws itself."""
