"""What starts and watches jobs: command lines, resources, profiles, submission, status, doctor. Imports no torch."""
