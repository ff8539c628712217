# SPDX-License-Identifier: BSD-2-Clause
"""Plants faults in the sources of a block, and finds those that its tests do not see."""
