"""Validates for the tests: `validate.py SCHEMA`, a value of JSON on each line of input, `valid` or what is wrong on each of output."""

import json
import sys

import jsonschema

with open(sys.argv[1]) as file:
    schema = json.load(file)
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
for line in sys.stdin:
    print(next((error.message for error in validator.iter_errors(json.loads(line))), "valid").replace("\n", " "))
