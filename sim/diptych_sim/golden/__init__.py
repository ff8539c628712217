# SPDX-License-Identifier: BSD-2-Clause
"""The integer specification of the machine, and the float reference."""
