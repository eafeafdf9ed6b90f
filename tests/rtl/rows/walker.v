// Walks the set bits of a stream of words, one bit a cycle, lowest first.
module walker #(parameter BITS = 32, EMPTY = 1, COUNT = 16) (
  input clk, input start, input [COUNT-1:0] words, input go,
  output [COUNT-1:0] address, input [BITS-1:0] data,
  output [COUNT-1:0] next, output take, output finish, output valid, output busy,
  output reg [$clog2(BITS)-1:0] index);

  reg [BITS-1:0] bits;
  wire [BITS-1:0] rest = bits & (bits - 1'b1);
  integer i;

  always @* begin
    i = 0;
    while (i < BITS - 1 && !bits[i]) i = i + 1;
    index = i;
  end

  sequencer #(.EMPTY(EMPTY), .COUNT(COUNT)) units (
    .clk(clk), .start(start), .units(words), .go(go), .empty(bits == 0), .last(rest == 0),
    .address(address), .next(next), .take(take), .finish(finish), .valid(valid), .busy(busy));

  always @(posedge clk) bits <= take ? data : rest;
endmodule
