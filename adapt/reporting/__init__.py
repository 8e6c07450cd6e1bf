"""Pictures and pages for people, from what run and scores hold."""
