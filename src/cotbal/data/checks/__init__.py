"""What `cotbal check` finds in a mixture before anything is trained."""
