"""What a run is given: typed parameters, their allowed values, and the folder they name."""
