// BP: each listed non-zero of the gradient times its row of weights, the lanes taking an input channel each. The list is
// gone through once for each group of LANES channels. Lanes whose output is not needed are gated; a group without any
// needed lane is skipped.
module bp_row #(parameter EMPTY = 1, LANES = 4, GROUPS = 8, VALUE = 16, INDEX = 16, SUM = 48, COUNT = 16) (
  input clk, input start, input [COUNT-1:0] groups, input [COUNT-1:0] length,
  output [COUNT-1:0] group_address, input [LANES-1:0] needed,
  output [COUNT-1:0] list_address, input [INDEX-1:0] index, input signed [VALUE-1:0] value,
  output [COUNT-1:0] weight_group, output [INDEX-1:0] weight_index, input [LANES*VALUE-1:0] weights,
  output busy, output reg [31:0] operations);

  reg signed [SUM-1:0] sums [0:GROUPS*LANES-1];

  wire take, finish, valid;
  wire [COUNT-1:0] next;
  reg [COUNT-1:0] at;               // place in the list
  reg [LANES-1:0] gates;            // of the group in work
  reg [LANES-1:0] enable;           // of the operands that arrive in this cycle, as are the next two
  reg signed [VALUE-1:0] factor;
  reg [COUNT-1:0] group;
  reg [31:0] enabled;
  integer l;

  sequencer #(.EMPTY(EMPTY), .COUNT(COUNT)) units (
    .clk(clk), .start(start), .units(groups), .go(1'b1),
    .empty(gates == 0 || length == 0), .last(at + 1'b1 == length),
    .address(group_address), .next(next), .take(take), .finish(finish), .valid(valid), .busy(busy));

  assign list_address = take ? {COUNT{1'b0}} : at + 1'b1;
  assign weight_group = next - 1'b1;
  assign weight_index = index;

  always @* begin
    enabled = 0;
    for (l = 0; l < LANES; l = l + 1) enabled = enabled + enable[l];
  end

  always @(posedge clk)
    if (start) begin
      enable <= 0; operations <= 0;
      for (l = 0; l < GROUPS * LANES; l = l + 1) sums[l] <= 0;
    end else begin
      at <= list_address;
      if (take) gates <= needed;
      enable <= valid ? gates : {LANES{1'b0}};
      factor <= value;
      group <= weight_group;
      operations <= operations + enabled;
      for (l = 0; l < LANES; l = l + 1)
        if (enable[l])
          sums[group*LANES + l] <= sums[group*LANES + l] + factor * $signed(weights[l*VALUE +: VALUE]);
    end
endmodule
