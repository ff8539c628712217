# SPDX-License-Identifier: BSD-2-Clause
"""Where built things are kept, and under which key."""
