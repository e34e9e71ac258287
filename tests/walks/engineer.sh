#!/usr/bin/env bash
# An engineer with pictures in folders: a profile, its faults, its report, a class for a new picture.
set -euo pipefail
python=.venv/bin/python

$python examples/own_data/export.py
mkdir -p work
cp -r examples/own_data/pictures work/photos
$python -m fmreport new-profile work/photos.yaml
sed -i 's/^dataset: .*/dataset: {folder: photoz, size: 16, title: Photos}/' work/photos.yaml
if $python -m fmreport check work/photos.yaml 2>faults; then exit 1; fi
grep "photoz" faults # the folder that is not there, by its name
sed -i 's/photoz/photos/' work/photos.yaml
$python -m fmreport check work/photos.yaml

make report PROFILE=work/photos.yaml
grep -q "Photos" build/photos/report.html
if grep -q "FashionMNIST" build/photos/report.html; then exit 1; fi
picture=$(find work/photos/test -name "*.png" | sort | head -1)
$python -m fmreport predict --profile work/photos.yaml --model mlp "$picture" | grep "digit"
