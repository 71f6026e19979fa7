"""Tests of the command: what it does when something is missing, wrong, or ends it from outside."""


def cases(mvm):
    return []
