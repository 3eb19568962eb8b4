"""Objectives: measures of how good a policy is on a dataset, one file per objective."""
