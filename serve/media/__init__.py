"""Picture and video files of the whole house: found, read, written, replaced in one step."""
