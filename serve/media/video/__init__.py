"""Videos in: files, streams, webcams and numbered pictures to upright frames with their times."""
