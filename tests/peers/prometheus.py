"""Reads Prometheus' text format from standard input, and writes what it says as JSON, by the name of each metric."""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

metrics = {}
for family in text_string_to_metric_families(sys.stdin.read()):
    samples = [[sample.name, sample.labels, sample.value] for sample in family.samples]
    assert family.documentation and samples and family.name not in metrics, family
    metrics[family.name] = {"type": family.type, "samples": samples}
json.dump(metrics, sys.stdout)
