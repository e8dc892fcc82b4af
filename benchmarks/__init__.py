"""What hangar-cloud costs beside its peers: `make bench`. Never part of the tests."""
