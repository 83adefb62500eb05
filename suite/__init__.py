# SPDX-License-Identifier: Apache-2.0
"""The harness that runs the recipes in `scenarios/`, checks their answers, times them and draws charts."""
