# SPDX-License-Identifier: BSD-2-Clause
"""The blocks of a tile, by programs: operations against the golden model, rates, tasks, causes.

Mutations that were tried by hand, each seen to fail: TRANSMIT that reads the word again that it has
sent, or sends at once with SEND; a fence that does not wait for it; received words that do not wait
while another one writes; a data task that takes control wavelets. Of causes: draining and issuing,
or backpressure and waiting for wavelets, exchanged; a fence's wait as backpressure; a bank conflict
as computing; products doubled. Of the stages: results that are not forwarded to the next
instruction; fences that do not hold an instruction in the pipe, for results and for the receiver,
or count the RECEIVEs before it wrongly; a RECEIVE that is over before its words are in memory, or
whose absence of words counts for another one; registers that show the wrong writer, or the old
value; results that are counted or sent twice; a statistic that does not go on. Words of load packets that
are lost while results are written; a word of TRANSMIT, or a scale word of RECEIVE, a cycle late.
"""

import pytest

from diptych.mesh.tile import Tile
from diptych.mesh.waits import WATCHED
from diptych_sim.engine.simulate import simulate
from diptych_tb.mesh.core_observer import PUBLIC
from support.testbench import RANDOM_START, assert_ran

# What observers and testbenches look at, beside ports.
LOOKED_AT = (
    *PUBLIC,
    *(("tile.core", f"watch_{name}") for name in WATCHED),
    *(
        ("tile.core.sram", f"{port}__{part}")
        for port in ("scalar", "scalar_write", "loader_write")
        for part in ("valid", "ready")
    ),
)
TESTS = {
    "core": [
        "scalar_functions",
        "scalar_functions_take_the_promised_cycles",
        "loading_waits_for_results",
    ],
    "core_monitor": ["a_tile_says_what_it_waits_for", "a_tile_waits_for_its_vector_pipe"],
    "operand_sequencer": [
        "a_vector_instruction_takes_one_cycle_to_issue",
        "sums_are_added_to_memory",
    ],
    "overlap": [
        "send_waits_for_results_of_its_color_only",
        "send_goes_beside_the_vector_pipe",
        "requantize_reads_what_is_received_meanwhile",
        "an_early_fence_saves_seven_cycles",
        "a_fence_waits_for_nothing_behind_it",
        "take_goes_before_a_joined_wavelet",
    ],
    "receiver": [
        "received_words_equal_the_golden_model",
        "receiving_takes_no_cycle_of_computing",
        "elements_are_added_to_what_was_just_received",
        "wavelets_are_taken_one_per_cycle",
    ],
    "tasks": [
        "tasks_start_block_and_take",
        "a_control_wavelet_starts_a_control_task",
        "tasks_activate_each_other_and_themselves",
    ],
    "transmitter": [
        "blocks_come_and_go_beside_products",
        "sending_takes_no_cycle_of_computing",
        "single_words_leave_between_those_of_a_block",
        "words_leave_in_a_row",
    ],
    "vector_pipe": [
        "vector_operations_equal_the_golden_model",
        "a_joined_wavelet_leaves_seven_cycles_after_it_came",
        "fences_hold_back_operands",
        "statistics_leave_in_order",
    ],
}


@pytest.mark.parametrize("block", TESTS)
def test_programs(block):
    ran = simulate(
        Tile,
        name="tile",
        test_module=f"diptych_tb.mesh.{block}",
        options=RANDOM_START,
        public=LOOKED_AT,
    )
    assert_ran(ran, *TESTS[block])
