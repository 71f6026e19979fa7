"""The parts of mvm-compare."""
