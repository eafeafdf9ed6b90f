// Takes units of work one after the other: words of a bitmap, or groups of channels.
//
// Units come from a memory that answers one cycle after its address. The address is that of the unit after the one
// being taken in this very cycle (lookahead), so the answer always belongs to unit `next` and is never stale. The
// datapath says when its unit has nothing to do and when it is in its last cycle. EMPTY = 1: a unit with nothing to
// do passes in the one cycle that it is in work. EMPTY = 2: the test for it is registered and takes one more.
module sequencer #(parameter EMPTY = 1, COUNT = 16) (
  input clk, input start, input [COUNT-1:0] units,
  input go,                       // permission to take unit `next`
  input empty, input last,        // of the unit in work
  output [COUNT-1:0] address,
  output reg [COUNT-1:0] next,    // units taken so far
  output take, output finish,     // first cycle before and last cycle of a unit
  output valid,                   // the unit in work has something to do
  output reg busy);

  reg primed, have, tested;

  assign valid = have & ~empty;
  assign finish = have & (empty ? (EMPTY == 1 || tested) : last);
  assign take = primed & (~have | finish) & (next != units) & go;
  assign address = next + take;

  always @(posedge clk)
    if (start) begin
      busy <= 1; primed <= 0; have <= 0; tested <= 0; next <= 0;
    end else if (busy) begin
      primed <= 1;
      tested <= have & empty & ~finish;
      have <= take | (have & ~finish);
      next <= next + take;
      if (primed & ~have & next == units) busy <= 0;  // the cycle that adds the last operand
    end
endmodule
