#!/usr/bin/env bash
# A reader who has just cloned: what there is, what this machine lacks, a whole report in minutes.
set -euo pipefail

make
make report PROFILE=smoke
for page in build/smoke/report.html build/smoke/report.pdf; do test -s "$page"; done
.venv/bin/python -m fmreport doctor || test $? -eq 2 # 2: this machine has a problem, which it told
make report PROFILE=smoke | grep "nothing to fit"
